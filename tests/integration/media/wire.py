"""Servers and a resolver that do what no honest one does."""

import socket
import threading
from collections.abc import Callable
from typing import Any

Answer = Callable[[socket.socket, str], Any]  # connection, request line


class Server:
    """A loopback server; `answer` speaks raw bytes. Without one it is a canary: it only counts."""

    def __init__(self, answer: Answer | None = None, wrap: Any = None) -> None:
        self.answer, self.wrap = answer, wrap
        self.requests: list[str] = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self.wrap:
                connection = self.wrap(connection)
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    part = connection.recv(65536)
                    if not part:
                        return
                    head += part
                self.requests.append(head.decode())
                if self.answer:
                    self.answer(connection, head.decode().split("\r\n")[0])
        except OSError:
            return

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def says(head: str, body: bytes = b"") -> Answer:
    """An answer of fixed bytes; `head` without its blank line."""
    return lambda connection, _: connection.sendall(
        head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body
    )


def plain(body: bytes, content_type: str = "image/png") -> Answer:
    return says(f"HTTP/1.1 200 OK\nContent-Type: {content_type}\nContent-Length: {len(body)}", body)


def redirect(location: str, status: int = 302) -> Answer:
    return says(f"HTTP/1.1 {status} Moved\nLocation: {location}\nContent-Length: 0")


class Resolver:
    """Stands in for socket.getaddrinfo: names are looked up here, addresses by the real one."""

    def __init__(self, default: str = "127.0.0.1") -> None:
        self.real = socket.getaddrinfo
        self.default = default
        self.names: dict[str, list[list[str]]] = {}  # name -> an answer for each question in turn
        self.asked: list[str] = []

    def __call__(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.real(host, port, *args, **{**kwargs, "flags": socket.AI_NUMERICHOST})
        except socket.gaierror:
            self.asked.append(host)
        answers = self.names.get(host, [[self.default]])
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            found for address in addresses for found in self.real(address, port, *args, **kwargs)
        ]
