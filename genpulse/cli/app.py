"""All commands of `genpulse`, and the environment they begin with."""

import os
from typing import Any

import typer

from genpulse.cli import (
    audit,
    backup,
    bench,
    chaos,
    control,
    demo,
    doctor,
    people,
    processes,
    queues,
    reconcile,
)
from genpulse.cli.instance import Instance
from genpulse.cli.terminal import DEFAULT_DATA, Data

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="GenPulse: generative-AI work on your own servers and accounts.",
)
for module in (control, people, demo, doctor, audit, backup, queues, reconcile, bench, chaos):
    app.add_typer(module.commands)


def _foreground(name: str) -> Any:
    def command(data: Data = DEFAULT_DATA) -> None:
        Instance(data).enter()
        processes.run(name)

    command.__doc__ = f"Run one {name} process in the foreground."
    return command


for alias, process in {
    **{name: name for name in processes.PROCESSES},
    "api": "web",
    "monitor": "flower",
}.items():
    app.command(alias, rich_help_panel="Processes")(_foreground(process))


def read_dotenv() -> None:
    """`.env` of the working directory; the real environment wins."""
    from dotenv import dotenv_values

    for name, value in dotenv_values(".env").items():
        if value is not None:
            os.environ.setdefault(name, value)


def begin() -> None:
    os.umask(0o077)  # logs, assets and secrets are nobody else's business
    read_dotenv()


def main() -> None:
    begin()
    app()


def run(*arguments: str) -> None:
    """One command on behalf of a script, which goes on when it succeeds and exits like it when not."""
    begin()
    try:
        app(list(arguments))
    except SystemExit as end:
        if end.code:
            raise
