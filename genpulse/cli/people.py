"""Users: keys and credits."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from genpulse.cli.terminal import (
    DEFAULT_DATA,
    WRONG_USAGE,
    AsJson,
    Data,
    django,
    fail,
    out,
    print_json,
)

commands = typer.Typer()
key = typer.Typer(no_args_is_help=True, help="API keys.")
commands.add_typer(key, name="key")


@key.command("create")
def create_key(
    user: Annotated[str, typer.Option(help="Created when missing.")],
    scopes: Annotated[str, typer.Option(help="Comma list; default: those of a normal key.")] = "",
    name: Annotated[str, typer.Option(help="What it is for.")] = "genpulse key create",
    expires: Annotated[str, typer.Option(help="30d, 12h, ...; default: never.")] = "",
    data: Data = DEFAULT_DATA,
    *,
    json: AsJson = False,
) -> None:
    """Create an API key and print it, once."""
    with django(data):
        from genpulse.auth import services
        from genpulse.auth.credentials import DEFAULT_SCOPES

        wanted = _scopes(scopes) or sorted(DEFAULT_SCOPES)
        options: dict[str, Any] = {"expires_at": _moment(expires)} if expires else {}
        owner = _user(user)
        row, text = services.create_key(owner, name=name, scopes=wanted, **options)
    if json:
        print_json({"key": text, "id": str(row.id), "user": user, "scopes": row.scopes})
    else:
        out.print(text)


def _scopes(text: str) -> list[str]:
    from genpulse.auth.credentials import SCOPES

    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = sorted(set(wanted) - set(SCOPES))
    if unknown:
        fail(
            f"unknown scopes: {', '.join(unknown)}; there are {', '.join(sorted(SCOPES))}",
            WRONG_USAGE,
        )
    return wanted


def _moment(text: str) -> datetime:
    from genpulse.config import seconds

    try:
        span = seconds(text)
    except ValueError as error:
        fail(f"--expires: {error}", WRONG_USAGE)
    if not span:
        fail("--expires: want a time from now, such as 30d", WRONG_USAGE)
    return datetime.now(UTC) + timedelta(seconds=span)


def _user(name: str) -> Any:
    from genpulse.auth import services
    from genpulse.errors import ValidationFailed

    try:
        return services.get_or_create_user(name)
    except ValidationFailed as error:
        fail(str(error), WRONG_USAGE)


@commands.command()
def deposit(
    name: Annotated[str, typer.Argument(help="User; created when missing.")],
    amount: Annotated[str, typer.Argument(metavar="CREDITS", help="Such as 100 or 0.5.")],
    reason: Annotated[str, typer.Option(help="Shown in the statement.")] = "genpulse deposit",
    reference: Annotated[str, typer.Option(help="The same one again deposits nothing.")] = "",
    data: Data = DEFAULT_DATA,
    *,
    json: AsJson = False,
) -> None:
    """Put credits into a user's wallet."""
    with django(data):
        from genpulse.auth import services as people
        from genpulse.money import to_credits
        from wallet import services as wallet

        micro = _micro(amount)
        created = people.find_user(name) is None
        account = _user(name).account_id
        wallet.deposit(account, micro, reason=reason, reference=reference)
        available = to_credits(wallet.balance(account).available)
    told = {
        "user": name,
        "deposited": to_credits(micro),
        "available": available,
        "created": created,
    }
    if json:
        print_json(told)
    else:
        out.print(f"{name}: {told['deposited']} deposited, {available} available", markup=False)


def _micro(amount: str) -> int:
    from genpulse.money import to_micro

    try:
        micro = to_micro(amount)
    except ValueError as error:
        fail(f"CREDITS: {error}", WRONG_USAGE)
    if micro <= 0:
        fail("CREDITS: want more than 0", WRONG_USAGE)
    return micro
