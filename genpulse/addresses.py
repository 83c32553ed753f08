"""Addresses of PostgreSQL and Redis: parts into URLs, spellings of other drivers into ours."""

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

DRIVER = re.compile(r"^(postgres(?:ql)?)\+(?:asyncpg|psycopg2?)(?=:)")


def database_url(url: str, host: str, port: int, *, user: str, password: str, name: str) -> str:
    """`url` without a driver's name, else one made of the parts, else empty."""
    if url:
        return DRIVER.sub(r"\1", url)
    if not host:
        return ""
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"postgresql://{login}@{host}:{port}/{quote(name, safe='')}"


def next_database(url: str) -> str:
    """The same Redis server, one database number further: `/0` -> `/1`, of a socket `?db=0` -> `?db=1`."""
    if not url:
        return ""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme != "unix" and "db" not in query:
        number = parts.path.strip("/")
        return urlunsplit(parts._replace(path=f"/{int(number) + 1 if number.isdigit() else 1}"))
    query["db"] = str(int(query.get("db", 0)) + 1)
    where = (
        f"unix://{parts.path}" if parts.scheme == "unix" else urlunsplit(parts._replace(query=""))
    )
    return f"{where}?{urlencode(query)}"


def same_server(one: str, other: str) -> bool:
    """True when both Redis URLs lead to one server."""
    left, right = urlsplit(one), urlsplit(other)
    if "unix" in {left.scheme, right.scheme}:
        return (left.scheme, left.path) == (right.scheme, right.path)
    return (left.hostname, left.port or 6379) == (right.hostname, right.port or 6379)
