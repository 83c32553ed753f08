"""Image, text and video by volcengine through the AI service paths; one PASS or FAIL line each."""

import argparse
import sys
import time
from typing import Any

from _common import client, parser

from genpulse.cli.client import ApiError, Client

PATIENCE = 600  # seconds for one result
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "image": ({"prompt": "a red kite over a field", "size": "1024x1024"}, "image_url"),
    "text": ({"prompt": "Say hello in one sentence."}, "text_result"),
    "video": ({"prompt": "a kite that climbs", "duration": 5}, "video_url"),
}


def arguments() -> argparse.Namespace:
    options = parser(__doc__ or "")
    options.add_argument("--provider", default="volcengine")
    options.add_argument("--user", default="volcengine-test", help="who asks")
    return options.parse_args()


def result(api: Client, kind: str, task_id: str) -> dict[str, Any]:
    """The answer of the finished task. Raises ApiError, OSError, TimeoutError."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer: dict[str, Any] = api.get(f"/ai/{kind}/result/{task_id}")
        if not answer["success"] or answer["data"]["status"] == "completed":
            return answer
        time.sleep(1)
    raise TimeoutError(f"no result after {PATIENCE} s")


def attempt(api: Client, kind: str, options: argparse.Namespace) -> str:
    """Empty, or why it failed."""
    fields, wanted = KINDS[kind]
    body = {**fields, "provider": options.provider, "user_id": options.user}
    try:
        task = api.post(f"/ai/{kind}/task", body)["data"]
        answer = result(api, kind, task["task_id"])
    except (ApiError, OSError) as error:
        return str(error)
    if not answer["success"]:
        return str(answer["error"])
    return "" if answer["data"][wanted] else f"{wanted} is empty"


def main() -> None:
    options = arguments()
    api = client(options)
    failures = {kind: attempt(api, kind, options) for kind in KINDS}
    for kind, failure in failures.items():
        sys.stdout.write(f"FAIL {kind}: {failure}\n" if failure else f"PASS {kind}\n")
    passed = sum(not failure for failure in failures.values())
    sys.stdout.write(f"{passed}/{len(KINDS)}\n")
    sys.exit(passed < len(KINDS))


if __name__ == "__main__":
    main()
