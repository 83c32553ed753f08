"""100 MiB go in and out of a real server without passing through its memory."""

import hashlib
import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.db import connection

from genpulse.auth import services as users
from genpulse.config import config
from genpulse.embedded import free_port
from media.models import Asset
from tests.integration.media.conftest import local

MIB = 1 << 20
SIZE = 100 * MIB
PATTERN = bytes(range(256)) * 4096  # 1 MiB
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def server(transactional_db, storage_folder) -> Iterator[tuple[psutil.Process, int]]:
    """Process and port of uvicorn on this test's database."""
    port = free_port()
    base, _, query = os.environ["DATABASE_URL"].partition("?")
    name = connection.settings_dict["NAME"]
    environment = {
        **os.environ,
        "DATABASE_URL": f"{base.rpartition('/')[0]}/{name}?{query}".rstrip("?"),
        "STORAGE_LOCAL_PATH": str(storage_folder),
        "RATE_LIMIT_WRITE": "0",
        "RATE_LIMIT_READ": "0",
    }
    command = [sys.executable, "-m", "uvicorn", "genpulse.asgi:application", "--port", str(port)]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not answers(port):
            time.sleep(0.1)
        yield psutil.Process(process.pid), port
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    try:
        return ask(port, "GET", "/api/v1/assets")[0] == 401
    except OSError:
        return False


def ask(port, method, path, body=None, headers=None) -> tuple[int, bytes]:
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        wire.request(method, path, body, headers or {})
        response = wire.getresponse()
        return response.status, response.read()
    finally:
        wire.close()


class Peak:
    """The most memory a process had while the block ran, above what it had before."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, self.done, self.peak = process, threading.Event(), 0

    def __enter__(self) -> "Peak":
        self.start = self.process.memory_info().rss
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        while not self.done.wait(0.01):
            self.peak = max(self.peak, self.process.memory_info().rss - self.start)

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def form(size: int) -> tuple[Iterator[bytes], dict[str, str]]:
    head = (
        b'--cut\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = b"\r\n--cut--\r\n"

    def parts() -> Iterator[bytes]:
        yield head
        for _ in range(size // MIB):
            yield PATTERN
        yield tail

    return parts(), {
        "Content-Type": "multipart/form-data; boundary=cut",
        "Content-Length": str(len(head) + size + len(tail)),
    }


def test_in_and_out(server, storage_folder, monkeypatch):
    process, port = server
    monkeypatch.setattr(config, "base_url", f"http://127.0.0.1:{port}")
    _, key = users.create_key(users.create_user("alice"), name="test")
    token = {"Authorization": f"Bearer {key}"}

    def upload(size):
        body, headers = form(size)
        return ask(port, "POST", "/api/v1/media", body, {**token, **headers})

    assert upload(2 * MIB)[0] == 201  # what is loaded on first use is loaded now
    with Peak(process) as growth:
        status, answer = upload(SIZE)
    assert status == 201, answer
    assert growth.peak < 20 * MIB
    asset = Asset.objects.get(size=SIZE)
    expected = hashlib.sha256()
    for _ in range(100):
        expected.update(PATTERN)
    assert asset.sha256 == expected.hexdigest()

    from media import services

    with Peak(process) as growth:
        digest = download(port, local(services.sign(asset).url))
    assert digest == asset.sha256
    assert growth.peak < 20 * MIB


def download(port: int, path: str) -> str:
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    wire.request("GET", path)
    response = wire.getresponse()
    assert response.status == 200
    digest = hashlib.sha256()
    while part := response.read(MIB):
        digest.update(part)
    wire.close()
    return digest.hexdigest()
