"""Connections that can be cut from outside: dialling, keep-alive per origin, deadlines.

urllib3 speaks HTTP and TLS here; its pools, retries and redirects are not used, because a paid request must know
exactly whether a byte has left, and a blocked thread must be freed by another one.
"""

import contextlib
import math
import os
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import certifi
from urllib3.connection import HTTPConnection, HTTPSConnection

from providers.urls import Origin

CONNECT_TIMEOUT = 10.0  # seconds, for each address of the host
IDLE_LIMIT = 30.0  # seconds a connection may wait for its next request
IDLE_PER_ORIGIN = 64


class Wire:
    """The socket of one request: found by the watchdog and by `abort`, however far the request has come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.cut_because: str | None = None

    def use(self, sock: socket.socket) -> None:
        """From now on a cut shuts `sock` down. Raises ConnectionAbortedError when the cut came first."""
        with self._lock:
            self._socket = sock
            if self.cut_because:
                raise ConnectionAbortedError(self.cut_because)

    def let_go(self) -> None:
        """The request is over: a late cut must not hit whoever gets the connection next."""
        with self._lock:
            self._socket = None

    def cut(self, reason: str) -> None:
        """Wake the thread that is blocked on the socket. Any thread, any time, more than once."""
        with self._lock:
            self.cut_because = self.cut_because or reason
            if self._socket is not None:
                # Closing would leave a blocked reader asleep. SSLSocket.shutdown would also drop its TLS
                # state under the reader's feet, hence the plain socket's method.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Dialling(HTTPConnection):
    """Hands every socket to the wire before it connects."""

    wire: Wire
    idle_since: float

    def _new_conn(self) -> socket.socket:
        failure: OSError = socket.gaierror("the host has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            sock = socket.socket(family, kind, protocol)
            try:
                self.wire.use(sock)
                sock.settimeout(self.timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure


class _Plain(Dialling):
    pass


class _Secure(Dialling, HTTPSConnection):
    pass


def trusted() -> ssl.SSLContext:
    """The CA bundle of SSL_CERT_FILE (a private CA), else certifi's."""
    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())


class Connections:
    """Keep-alive connections by origin, shared by all threads of a process."""

    def __init__(self, tls: Callable[[], ssl.SSLContext] = trusted) -> None:
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[Dialling]] = defaultdict(list)
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        os.register_at_fork(after_in_child=self._forget)

    def get(self, origin: Origin, wire: Wire, *, max_idle: float = IDLE_LIMIT) -> Dialling:
        """A connected connection, its socket in the care of `wire`. Raises OSError when none can be made."""
        while connection := self._pop(origin):
            fresh = time.monotonic() - connection.idle_since <= max_idle
            if fresh and connection.is_connected:
                break
            connection.close()
        else:
            connection = self._new(origin)
        connection.wire = wire
        try:
            self._connect(connection, wire)
        except BaseException:
            connection.close()
            raise
        return connection

    def put(self, origin: Origin, connection: Dialling) -> None:
        """Keep a connection whose last answer was read to its end."""
        connection.wire.let_go()
        connection.idle_since = time.monotonic()
        with self._lock:
            if connection.sock is not None and len(self._idle[origin]) < IDLE_PER_ORIGIN:
                self._idle[origin].append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle = [connection for group in self._idle.values() for connection in group]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _pop(self, origin: Origin) -> Dialling | None:
        with self._lock:
            group = self._idle[origin]
            return group.pop() if group else None

    def _new(self, origin: Origin) -> Dialling:
        if origin.scheme == "http":
            return _Plain(origin.host, origin.port, timeout=CONNECT_TIMEOUT)
        with self._lock:
            self._context = self._context or self._tls()
        return _Secure(origin.host, origin.port, timeout=CONNECT_TIMEOUT, ssl_context=self._context)

    @staticmethod
    def _connect(connection: Dialling, wire: Wire) -> None:
        if connection.sock is None:
            connection.timeout = CONNECT_TIMEOUT
            connection.connect()
        # TLS wraps the dialled socket in another object, and a kept connection has its own already.
        wire.use(connection.sock)

    def _forget(self) -> None:
        """A forked child must not speak on its parent's sockets."""
        self._lock = threading.Lock()
        self._idle = defaultdict(list)


class Watchdog:
    """Rings at deadlines, from one daemon thread that starts when it is first needed.

    Socket time-outs count silence; a peer that drips one byte a second never trips them.
    """

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._alarms: dict[object, tuple[float, Callable[[], None]]] = {}
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, deadline: float, ring: Callable[[], None]) -> Iterator[None]:
        """Call `ring` should the block still run at `deadline` (monotonic seconds)."""
        ticket = object()
        with self._changed:
            self._alarms[ticket] = (deadline, ring)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif deadline < self._wakes_at:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._alarms.pop(ticket, None)

    def _run(self) -> None:
        while True:
            for ring in self._next():
                ring()

    def _next(self) -> list[Callable[[], None]]:
        """Wait for a deadline; the callbacks whose time has come."""
        with self._changed:
            self._wakes_at = min((at for at, _ in self._alarms.values()), default=math.inf)
            pause = self._wakes_at - time.monotonic()
            if pause > 0:
                self._changed.wait(None if math.isinf(pause) else pause)
            now = time.monotonic()
            due = [ticket for ticket, (at, _) in self._alarms.items() if at <= now]
            return [self._alarms.pop(ticket)[1] for ticket in due]


CONNECTIONS = Connections()
WATCHDOG = Watchdog()
