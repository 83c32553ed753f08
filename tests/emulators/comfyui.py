"""A ComfyUI server: one worker thread, queue and history in memory, the websocket, all as the real one (0.3.64 and newer).

comfy.hold() / comfy.let_go()      # nothing finishes in between
comfy.fail_next("RuntimeError", "boom")
comfy.restart()                    # queue, history and sockets are gone, the port stays
comfy.muted = True                 # sockets are open and silent
comfy.hidden = {"/queue"}          # a proxy lets these paths not through
"""

import json
import re
import struct
import threading
import time
import uuid
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Self

from tests.emulators import websocket
from tests.emulators.base import Emulator, Request, Response, _Handler, route
from tests.emulators.comfyui_engine import Engine, Run
from tests.emulators.comfyui_nodes import Refused, object_info, validate

PNG = b"\x89PNG preview"


class Sockets:
    """The open websockets by client id. Implements `Events`."""

    def __init__(self) -> None:
        self.muted = False
        self.refusing = False
        self.handshakes: list[Any] = []
        self._open: dict[str, websocket.ServerSocket] = {}
        self._lock = threading.Lock()

    def serve(self, client_id: str, socket: websocket.ServerSocket, engine: Engine) -> None:
        sid = client_id or uuid.uuid4().hex
        waiting = {"exec_info": {"queue_remaining": engine.remaining()}}
        socket.send(_frame("status", {"status": waiting, "sid": sid}))
        with self._lock:
            self._open[sid] = socket
        run = engine.running
        if run and run.extra.get("client_id") == sid:
            socket.send(_frame("executing", {"node": run.node}))
        while (message := socket.receive()) is not None:
            data = json.loads(message)
            if data.get("type") == "feature_flags":
                socket.features = data["data"]
                socket.send(_frame("feature_flags", {"supports_preview_metadata": True}))
        with self._lock:
            if self._open.get(sid) is socket:
                del self._open[sid]

    def of(self, client_id: str) -> websocket.ServerSocket | None:
        """The socket of a client that listens and has said what it can do."""
        socket = self._open.get(client_id)
        return socket if socket is not None and socket.features else None

    def hang_up(self) -> None:
        with self._lock:
            sockets, self._open = list(self._open.values()), {}
        for socket in sockets:
            socket.hang_up()

    def send(self, run: Run, kind: str, data: dict[str, Any]) -> None:
        if run.abandoned:
            return
        text = _frame(kind, data | {"prompt_id": run.prompt_id})
        client_id = run.extra.get("client_id")
        if client_id is not None:
            self.to(client_id, text)
        elif kind in {"progress", "progress_state", "execution_interrupted"}:
            self._broadcast(text)

    def preview(self, run: Run, node_id: str) -> None:
        client_id = run.extra.get("client_id", "")
        socket = self._open.get(client_id)
        if socket is None:
            return
        if not socket.features.get("supports_preview_metadata"):
            self.to(client_id, struct.pack(">II", 1, 2) + PNG)
            return
        about = {"node_id": node_id, "prompt_id": run.prompt_id, "image_type": "image/png"}
        head = json.dumps(about).encode()
        self.to(client_id, struct.pack(">II", 4, len(head)) + head + PNG)

    def status(self, waiting: int) -> None:
        self._broadcast(_frame("status", {"status": {"exec_info": {"queue_remaining": waiting}}}))

    def to(self, client_id: str, message: str | bytes) -> None:
        socket = self._open.get(client_id)
        if socket is not None and not self.muted:
            socket.send(message)

    def _broadcast(self, message: str | bytes) -> None:
        for client_id in list(self._open):
            self.to(client_id, message)


def _frame(kind: str, data: dict[str, Any]) -> str:
    return json.dumps({"type": kind, "data": data})


class ComfyUI(Emulator):
    """`new`: the builds of 2026 (jobs API, canonical prompt ids); else 0.3.64, with `own_ids` one of before 2025-08."""

    def __init__(self, *, new: bool = False, own_ids: bool = False) -> None:
        super().__init__()
        self._server.RequestHandlerClass = _WithSocket
        self.new, self.own_ids = new, own_ids
        self.hidden: set[str] = set()
        self.meanwhile: list[
            Callable[[], object] | None
        ] = []  # before the coming requests, one each
        self.freed = 0
        self.sockets = Sockets()
        self.engine = Engine(self.sockets)

    def __enter__(self) -> Self:
        super().__enter__()
        threading.Thread(target=self.engine.work, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.stopping.set()
        super().__exit__(*error)

    def hold(self) -> None:
        """The worker stops before its next node or step."""
        self.engine.gate.clear()

    def let_go(self) -> None:
        self.engine.gate.set()

    def fail_next(self, exception_type: str, message: str) -> None:
        """The next node that is executed (not cached) fails."""
        self.engine.failures.append((exception_type, message))

    def restart(self) -> None:
        """As a crash and a new start. The run that was going on ends without a trace."""
        with self.engine.changed:
            self.engine.forget_all()
        self.sockets.hang_up()

    def wait(self, what: Any) -> None:
        """Until `what()` is true. Fails after 10 s."""
        until = time.monotonic() + 10
        while not what():
            assert time.monotonic() < until, "it did not come to that"
            time.sleep(0.005)

    def submitted(self) -> list[dict[str, Any]]:
        """The bodies of `POST /prompt`."""
        return [call.json for call in self.calls("POST", "/prompt")]

    def _answer(self, request: Request) -> Response:
        origin = request.headers.get("Origin")
        if origin and origin.partition("//")[2] != request.headers.get("Host"):
            return Response(403)
        if self.meanwhile and (happens := self.meanwhile.pop(0)):
            happens()
        if request.path in self.hidden:
            return Response(405 if request.method == "POST" else 404)
        return super()._answer(request)

    @route("POST", "/prompt")
    def post_prompt(self, request: Request) -> Any:
        try:
            body = request.json
        except ValueError:
            return Response(500, "500 Internal Server Error\n\nServer got itself in trouble")
        if "prompt" not in body:
            return Response(400, Refused("no_prompt", "No prompt provided", "").body)
        chosen = str(body.get("prompt_id") or uuid.uuid4())
        if self.new and not _canonical(chosen):
            return Response(400, Refused("invalid_prompt_id", "Invalid prompt id", chosen).body)
        prompt_id = str(uuid.uuid4()) if self.own_ids else chosen
        try:
            outputs, node_errors = validate(body["prompt"], self.engine.nodes(), new=self.new)
        except Refused as refused:
            return Response(400, refused.body)
        extra = dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        run = Run(float(body.get("number", 0)), prompt_id, body["prompt"], extra, outputs)
        self.engine.put(run)
        return {"prompt_id": prompt_id, "number": run.number, "node_errors": node_errors}

    @route("GET", "/prompt")
    def get_prompt(self, request: Request) -> Any:
        return {"exec_info": {"queue_remaining": self.engine.remaining()}}

    @route("GET", "/queue")
    def get_queue(self, request: Request) -> Any:
        with self.engine.changed:
            running = [self.engine.running.item] if self.engine.running else []
            return {
                "queue_running": running,
                "queue_pending": [run.item for run in self.engine.pending],
            }

    @route("POST", "/queue")
    def post_queue(self, request: Request) -> Any:
        self.engine.delete(set(request.json["delete"]))
        return Response()

    @route("GET", "/history")
    def get_history(self, request: Request) -> Any:
        count = int(request.query.get("max_items", ["10000"])[0])
        with self.engine.changed:
            return dict(list(self.engine.history.items())[-count:])

    @route("GET", "/history/{prompt_id}")
    def get_entry(self, request: Request, prompt_id: str) -> Any:
        with self.engine.changed:
            entry = self.engine.history.get(prompt_id)
            return {prompt_id: entry} if entry else {}

    @route("POST", "/interrupt")
    def post_interrupt(self, request: Request) -> Any:
        wanted = (request.json if request.body else {}).get("prompt_id")
        self.engine.interrupt(None if self.own_ids else wanted)
        return Response()

    @route("POST", "/api/jobs/{prompt_id}/cancel")
    def cancel_job(self, request: Request, prompt_id: str) -> Any:
        if not self.new:
            return Response(405)
        return {"cancelled": self.engine.delete({prompt_id}) or self.engine.interrupt(prompt_id)}

    @route("POST", "/free")
    def post_free(self, request: Request) -> Any:
        if request.json.get("free_memory"):
            self.freed += 1
            self.engine.forget_results()
        return Response()

    @route("POST", "/upload/image")
    def upload(self, request: Request) -> Any:
        parts = _form(request)
        name, content = parts.get("image", ("", b""))
        if not name:
            return Response(400)
        kind, subfolder = parts.get("type", ("", b"input"))[1].decode(), ""
        stem, dot, suffix = name.rpartition(".")
        count = 0
        while self.engine.files.get((kind, subfolder, name), content) != content:
            count += 1
            name = f"{stem} ({count}){dot}{suffix}"
        self.engine.files[kind, subfolder, name] = content
        return {"name": name, "subfolder": subfolder, "type": kind}

    @route("GET", "/view")
    def view(self, request: Request) -> Any:
        query = {name: values[0] for name, values in request.query.items()}
        name, subfolder = query.get("filename", ""), query.get("subfolder", "")
        if not name or name[0] == "/" or ".." in name:
            return Response(400)
        if subfolder.startswith("/") or ".." in subfolder:
            return Response(403)
        content = self.engine.files.get((query.get("type", "output"), subfolder, name))
        return Response(404) if content is None else Response(200, content)

    @route("GET", "/object_info")
    def all_info(self, request: Request) -> Any:
        return {name: object_info(name, node) for name, node in self.engine.nodes().items()}

    @route("GET", "/object_info/{name}")
    def one_info(self, request: Request, name: str) -> Any:
        node = self.engine.nodes().get(name)
        return {name: object_info(name, node)} if node else {}

    @route("GET", "/models")
    def folders(self, request: Request) -> Any:
        return ["custom_nodes", *self.engine.models]

    @route("GET", "/models/{folder}")
    def folder(self, request: Request, folder: str) -> Any:
        return self.engine.models.get(folder, Response(404))

    @route("GET", "/system_stats")
    def system_stats(self, request: Request) -> Any:
        gpu = {"name": "cuda:0 Emulated", "type": "cuda", "index": 0}
        memory = {"vram_total": 24 * 2**30, "vram_free": 20 * 2**30}
        version = "0.28.1" if self.new else "0.3.64"
        return {"system": {"os": "posix", "comfyui_version": version}, "devices": [gpu | memory]}


class _WithSocket(_Handler):
    def do_GET(self) -> None:  # noqa: N802 - the name http.server asks for
        if not self.path.startswith("/ws"):
            self._serve()
            return
        emulator = self.server.emulator
        assert isinstance(emulator, ComfyUI)
        emulator.sockets.handshakes.append(self.headers)
        if "Origin" in self.headers or emulator.sockets.refusing:
            self.send_error(403)
        elif socket := websocket.accept(self):
            client_id = self.path.partition("clientId=")[2]
            emulator.sockets.serve(client_id, socket, emulator.engine)
        self.close_connection = True


def _canonical(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None


def _form(request: Request) -> dict[str, tuple[str, bytes]]:
    """Field -> (file name, content)."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    message: Any = BytesParser(policy=HTTP).parsebytes(head + request.body)
    return {
        part.get_param("name", header="content-disposition"): (
            part.get_filename() or "",
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    }
