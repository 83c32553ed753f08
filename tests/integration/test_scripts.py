"""The scripts, run as people run them: what they print and how they exit."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import redis

from genpulse import schema, sql
from tests.integration.cast import caller
from tests.integration.listeners import Remote, rich
from tests.integration.stack import ROOT, all_ended, sandbox
from wallet import services as wallet

QUEUE = "gp:quarantine"
BUCKET = b"""<?xml version="1.0" encoding="UTF-8"?>
<BucketInfo><Bucket><Name>pictures</Name><Location>oss-cn-hangzhou</Location><StorageClass>Standard</StorageClass>
<CreationDate>2026-01-01T00:00:00.000Z</CreationDate><ExtranetEndpoint>x</ExtranetEndpoint>
<IntranetEndpoint>y</IntranetEndpoint><Owner><ID>1</ID><DisplayName>1</DisplayName></Owner>
<AccessControlList><Grant>private</Grant></AccessControlList></Bucket></BucketInfo>"""


@pytest.fixture
def script(processes, tmp_path):
    """Runs one in an empty working directory; `more` is added to its environment."""

    def run(name: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**processes.environment, "GENPULSE_DATA": str(tmp_path / "none"), **more}
        path = str(ROOT / name)
        command = [sys.executable, path] if name.endswith(".py") else [path]
        return subprocess.run(
            [*command, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def at(who: Remote) -> list[str]:
    return ["--base-url", who.base, "--key", who.who.headers["Authorization"].split()[1]]


def test_queue_status(web, script):
    sandbox()
    root = Remote(web, caller("root", "admin"))
    header, *rows = said(script("scripts/check_queue_status.sh", *at(root)))
    assert header.split() == ["queue", "pending", "active", "scheduled", "retry", "failed"]
    assert ["sandbox", "0", "0", "0", "0", "0"] in [row.split() for row in rows]
    nobody = script("scripts/check_queue_status.sh", "--base-url", "http://127.0.0.1:9")
    assert nobody.returncode == 1
    assert "cannot read the queues" in nobody.stderr


def test_clearing_the_broker_loses_no_work(web, script):
    sandbox()
    alice = rich(web)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as broker:
        broker.rpush(QUEUE, "a", "b", "c")  # nobody consumes it
        broker.set("somebody-elses", "1", ex=60)
        asked = script("scripts/clear_redis_queue.sh")
        assert (asked.returncode, broker.llen(QUEUE)) == (1, 3)
        task = alice.submit()["id"]
        [line] = said(script("scripts/clear_redis_queue.sh", "--force"))
        number, rest = line.split(" ", 1)
        assert rest == "messages deleted", line
        assert int(number) >= 3, line
        assert broker.llen(QUEUE) == 0
        assert broker.get("somebody-elses") == b"1"
    assert all_ended([task])[0].status == "succeeded"


def test_a_small_load(web, script):
    sandbox(slots=16)
    alice = rich(web)
    lines = said(script("scripts/load_test.sh", "-n", "12", "-c", "4", *at(alice)))
    assert [line.split("  ")[0] for line in lines] == [
        "requests",
        "success rate",
        "throughput",
        "p50 / p95 / p99",
    ]
    assert lines[0].split() == ["requests", "12"]
    assert lines[1].split()[-1] == "100.0%"
    poor = Remote(web, caller("poor"))
    refused = script("scripts/load_test.sh", "-n", "3", *at(poor))
    assert refused.returncode == 1
    assert "0.0%" in refused.stdout


def test_image_text_and_video_by_the_ai_service_door(web, script):
    """The sandbox stands in for the vendor."""
    sandbox(slots=16)
    service = Remote(web, caller("shop", "act_as", "tasks"))
    wallet.deposit(caller("buyer").user.account_id, 1_000_000_000, reason="test")
    words = ["--provider", "sandbox", "--user", "buyer"]
    name = "scripts/test_volcengine_full.sh"
    assert said(script(name, *words, *at(service))) == [
        "PASS image",
        "PASS text",
        "PASS video",
        "3/3",
    ]
    failed = script(name, "--provider", "nobody", *at(service))
    assert failed.returncode == 1
    *lines, total = failed.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["FAIL image", "FAIL text", "FAIL video"]
    assert total == "0/3"


class Oss(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BUCKET)))
        self.end_headers()
        self.wfile.write(BUCKET)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def oss():
    with ThreadingHTTPServer(("127.0.0.1", 0), Oss) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_the_bucket_says_who_it_is(db, script):
    name = "scripts/test_oss_connection.py"
    missing = script(name, OSS_BUCKET="pictures")
    assert missing.returncode == 1
    assert missing.stderr.split("\n")[:3] == [
        f"{name} is not set" for name in ("OSS_ENDPOINT", "OSS_ACCESS_KEY", "OSS_SECRET_KEY")
    ]
    with oss() as address:
        keys = {"OSS_ACCESS_KEY": "k", "OSS_SECRET_KEY": "s"}
        found = script(name, OSS_ENDPOINT=address, OSS_BUCKET="pictures", **keys)
    assert said(found) == ["Bucket: pictures", "Region: oss-cn-hangzhou"]


def test_the_schema_by_its_names(stack, script):
    """Both are repeatable and keep the data."""
    caller("kept")
    done = "✅ 数据库表结构同步完成！"  # noqa: RUF001 - the promised words
    try:
        for _ in range(2):
            assert said(script("init/init_db.py")) == [done]
        names = said(script("scripts/create_schema.py"))
        assert {
            "task_batches",
            "tasks",
            "task_assets",
            "task_events",
            "executors",
            "workflows",
            "workflow_bindings",
            "api_keys",
        } <= set(names)
        assert names == sorted(names)
        assert sql.fetch("SELECT name FROM accounts_account") == [("kept",)]
    finally:
        sql.execute(f"DROP VIEW IF EXISTS {', '.join(schema.VIEWS)}")
