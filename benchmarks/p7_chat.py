"""P7: a streamed chat through the platform against the same client straight at the same upstream.

Both speak OpenAI's dialect. Time to the first piece, and pieces per second over the whole answer; the streams
alternate. The upstream sends a piece every 10 ms.
"""

import argparse
import http.client
import json
import statistics
import sys
import time
from urllib.parse import urlsplit

from benchmarks import cast
from benchmarks.ground import Ground, await_answer, started
from benchmarks.report import percentile, report
from genpulse.embedded import free_port

PATH = "/openai/v1/chat/completions"


def streamed(base: str, path: str, key: str, count: int) -> tuple[float, float]:
    """Seconds to the first piece, pieces per second."""
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=60)
    body = {
        "model": "qwen-bench",
        "stream": True,
        "max_tokens": count,
        "messages": [{"role": "user", "content": "hi"}],
    }
    began = time.perf_counter()
    connection.request("POST", path, json.dumps(body), cast.headers(key))
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    first, text = 0.0, ""
    for line in answer:
        choices = json.loads(line[6:])["choices"] if line.startswith(b"data: {") else []
        content = choices[0]["delta"].get("content") if choices else None
        if content:
            first = first or time.perf_counter() - began
            text += content
    took = time.perf_counter() - began
    connection.close()
    assert text.split() == [f"w{number}" for number in range(count)], text[-200:]
    return first, count / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=30)
    parser.add_argument("--pieces", type=int, default=300)
    options = parser.parse_args()
    port = free_port()
    vendor = f"http://127.0.0.1:{port}"
    upstream = [sys.executable, "-m", "uvicorn", "benchmarks.upstream:application"]
    upstream += ["--port", str(port), "--log-level", "error"]
    with Ground() as ground, started([upstream]):
        await_answer(f"{vendor}/models")
        key = cast.key_of("bench")
        cast.executor("qwen", base_url=f"{vendor}/v1")
        with ground.processes("web", "orchestrator", "worker"):
            streamed(ground.base, PATH, key, 5)  # warm
            ours, straight = [], []
            for _ in range(options.streams):
                ours.append(streamed(ground.base, PATH, key, options.pieces))
                straight.append(streamed(vendor, "/v1/chat/completions", key, options.pieces))
    firsts, speeds = (
        [list(column) for column in zip(*side, strict=True)] for side in (ours, straight)
    )
    conclude(firsts[0], straight_first=speeds[0], ours_speed=firsts[1], straight_speed=speeds[1])


def conclude(
    ours_first: list[float],
    *,
    straight_first: list[float],
    ours_speed: list[float],
    straight_speed: list[float],
) -> None:
    mine = [seconds * 1000 for seconds in ours_first]
    base = [seconds * 1000 for seconds in straight_first]
    added = round(statistics.median(mine) - statistics.median(base), 1)
    report(
        "P7 first piece", "ms", mine, base, added_p50_ms=added, p95_ms=round(percentile(mine, 95))
    )
    report("P7 pieces per second", "per second", ours_speed, straight_speed)


if __name__ == "__main__":
    main()
