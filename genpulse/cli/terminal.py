"""What commands say: results to stdout, everything else to stderr; and the options they share."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from genpulse.cli.instance import Instance

FAILED, WRONG_USAGE, NOT_RUNNING = 1, 2, 3

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Data = Annotated[
    Path, typer.Option("--data", envvar="GENPULSE_DATA", help="Folder of the instance.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON on stdout.")]
DEFAULT_DATA = Path(".genpulse")


def fail(message: str, code: int = FAILED) -> NoReturn:
    err.print(f"genpulse: {message}", markup=False)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """Exactly one line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def running(data: Path) -> Instance:
    """The instance of `data`, or exit 3."""
    instance = Instance(data)
    if instance.supervisor_pid() is None:
        fail(f"nothing runs in {instance.home}; start it with `genpulse up`", NOT_RUNNING)
    return instance


@contextmanager
def django(data: Path) -> Iterator[Instance]:
    """The instance with Django set up and a schema to work with; its refusals become exit 1."""
    from genpulse.refusals import ConfigError

    instance = Instance(data)
    instance.enter()
    if not (os.environ.get("DATABASE_URL") or os.environ.get("DB_HOST")):
        fail(f"no instance in {instance.home} and no DATABASE_URL", NOT_RUNNING)
    try:
        set_up_django()
        yield instance
    except ConfigError as error:
        for reason in error.reasons:
            err.print(f"genpulse: {reason}", markup=False)
        raise typer.Exit(FAILED) from None
    except unreachable() as error:
        fail(f"the database does not answer: {first_line(error)}", NOT_RUNNING)


def set_up_django() -> None:
    """Raises ConfigError."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "genpulse.settings")
    from django import setup

    setup()


def unreachable() -> type[Exception]:
    from django.db import OperationalError

    return OperationalError


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
