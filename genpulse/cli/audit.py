"""`genpulse audit`: the invariants of ledger and tasks, proved on the data as they are."""

from dataclasses import asdict

import typer

from genpulse.cli.terminal import DEFAULT_DATA, FAILED, AsJson, Data, django, out, print_json

commands = typer.Typer()


@commands.command()
def audit(data: Data = DEFAULT_DATA, *, json: AsJson = False) -> None:
    """Check every invariant; exit 1 when one is broken."""
    with django(data):
        from tasks import audit as tasks_audit

        results = tasks_audit.run()
    if json:
        print_json({"invariants": [asdict(result) for result in results]})
    else:
        for result in results:
            style = "red" if result.count else "green"
            out.print(f"{result.count:6}  {result.name}", style=style)
    if any(result.count for result in results):
        raise typer.Exit(FAILED)
