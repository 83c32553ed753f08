"""The processes of GenPulse, each in the foreground: `python -m genpulse.cli.processes NAME`.

Everything about how they are run stands here and nowhere else.
"""

import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable

from genpulse.embedded.system import child_command
from genpulse.refusals import ConfigError
from genpulse.supervisor import Program

DESCRIPTORS = 65536  # one for each WebSocket and each call in flight
LATE = ("media", "flower")  # not needed to accept and run work: they leave the CPU to the others


def web() -> None:
    """HTTP and WebSockets: one process, one event loop."""
    import gc

    import uvicorn
    from django.urls import get_resolver

    from genpulse.asgi import application
    from genpulse.config import config

    get_resolver().check()  # loads every door
    gc.collect()
    gc.freeze()  # what stays for good is not looked through again while clients wait
    uvicorn.run(
        application,
        host=config.host,
        port=config.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=config.enable_detailed_logging,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,  # longer than clients keep theirs, or they send into a closing socket
        ws="genpulse.cli.websockets:Protocol",
        ws_ping_interval=20,
        ws_ping_timeout=40,  # unanswered for a minute: the client is gone
        ws_per_message_deflate=False,  # small events to many: costs more than it saves
        timeout_graceful_shutdown=5,  # streams do not end by themselves
    )


def worker() -> None:
    """Calls to vendors and servers, in threads, for WORKER_QUEUES (default: every family)."""
    _quiet_celery()
    from tasks import worker as processes

    processes.run_io()


def media() -> None:
    """Results: fetch, decode, thumbnails; in processes, so that memory and time are limited."""
    _quiet_celery()
    from tasks import worker as processes

    processes.run_media()


def quarantine() -> None:
    """Tasks suspected of killing workers, one after the other, away from everybody else."""
    _quiet_celery()
    from tasks import worker as processes

    processes.run_io(quarantine=True)


def _quiet_celery() -> None:
    from celery import signals
    from celery.platforms import SecurityWarning

    signals.setup_logging.connect(lambda **_: None, weak=False)  # ours is set up already
    warnings.simplefilter("ignore", SecurityWarning)  # messages are JSON; root is no danger here


def orchestrator() -> None:
    """Decides what runs where and when; any number of replicas."""
    from django.core.management import call_command

    call_command("orchestrate")


def monitor() -> None:
    """Flower on loopback, read-only, behind FLOWER_BASIC_AUTH, at FLOWER_PORT (5555)."""
    from genpulse.celery import app

    if not os.environ.get("FLOWER_BASIC_AUTH"):
        raise ConfigError(["FLOWER_BASIC_AUTH: missing; want user:password"])
    port = os.environ.get("FLOWER_PORT", "5555")
    app.start(["--quiet", "flower", "--address=127.0.0.1", f"--port={port}", "--read_only=true"])


PROCESSES: dict[str, Callable[[], None]] = {
    "web": web,
    "orchestrator": orchestrator,
    "worker": worker,
    "media": media,
    "flower": monitor,
    "quarantine": quarantine,
}


def program(name: str, grace: float) -> Program:
    """The process as the supervisor runs it; `grace` is what calls get to end, in seconds."""
    command = [sys.executable, "-m", "genpulse.cli.processes", name]
    return Program(
        name=name,
        command=child_command(command, signal.SIGKILL),
        stop_seconds=int(grace) + 10,
        late=name in LATE,
        on_demand=name == "quarantine",
    )


def run(name: str) -> None:
    """Check, then run until stopped. Exits with 1 and one line for each reason not to start."""
    try:
        _prepare(name)
        PROCESSES[name]()
    except ConfigError as error:
        sys.stderr.write("".join(f"genpulse: {reason}\n" for reason in error.reasons))
        sys.exit(1)


def _prepare(name: str) -> None:
    import genpulse.logging

    genpulse.logging.configure(name)
    _allow_many_connections()
    if name == "flower":  # reads the broker only
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "genpulse.settings")
    import django

    django.setup()
    from genpulse import startup

    startup.check()


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


if __name__ == "__main__":
    sys.modules["rich"] = None  # type: ignore[assignment] # structlog would load it, for nothing
    run(sys.argv[1])
