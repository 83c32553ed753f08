"""`genpulse audit`: the invariants of ledger and tasks, proved on the data as they are."""

from dataclasses import asdict

import typer

from genpulse.cli.terminal import DEFAULT_DATA, FAILED, AsJson, Data, django, out, print_json

commands = typer.Typer()


@commands.command()
def audit(data: Data = DEFAULT_DATA, *, json: AsJson = False) -> None:
    """Check every invariant; exit 1 when one is broken."""
    with django(data):
        report(json=json)


def report(*, json: bool) -> None:
    """Needs Django."""
    from tasks import audit as tasks_audit

    checks = tasks_audit.run()
    if json:
        print_json({"invariants": [asdict(check) for check in checks]})
    else:
        for check in checks:
            rows = f"  ({', '.join(check.sample)})" if check.sample else ""
            line = f"{check.violations:6}  {check.name}: {check.description}{rows}"
            out.print(line, style="red" if check.violations else "green", markup=False)
    if any(check.violations for check in checks):
        raise typer.Exit(FAILED)
