"""The `genpulse` command. Heavy libraries are imported by the commands that need them."""


def main() -> None:
    """Entry point. Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not running."""
    from genpulse.cli.app import main as run

    run()
