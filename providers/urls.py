"""Addresses as credentials see them: an origin, and what lies below it."""

from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit


class Origin(NamedTuple):
    """What a credential is bound to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def origin_of(url: str) -> Origin:
    """Scheme, host and port of an http(s) address. Raises ValueError for anything that two parsers could read differently."""
    if any(c in url for c in "\\\r\n\t ") or not url.isprintable():
        raise ValueError("not a plain URL")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("want http(s)://host without user information")
    host = parts.hostname.encode("idna").decode("ascii").rstrip(".")
    return Origin(parts.scheme, host, parts.port or {"http": 80, "https": 443}[parts.scheme])


def same_origin(one: str, other: str) -> bool:
    """Both are plain http(s) addresses of one scheme, host and port."""
    try:
        return origin_of(one) == origin_of(other)
    except ValueError:
        return False


def address_of(base_url: str, path: str) -> str:
    """`path` below `base_url`, or itself when it is an address of the same origin. Raises ValueError."""
    absolute = path.lower().startswith(("http://", "https://"))
    url = path if absolute else f"{base_url}/{path.lstrip('/')}"
    if origin_of(url) != origin_of(base_url):
        raise ValueError("another origin")
    if urlsplit(base_url).query or ".." in unquote(urlsplit(url).path).split("/"):
        raise ValueError("a path that leaves the base URL")
    return url


def redirected(url: str, location: str) -> str:
    """Where a redirect leads. Raises ValueError when from https to http."""
    target = urljoin(url, location)
    if origin_of(target).scheme == "http" and origin_of(url).scheme == "https":
        raise ValueError("downgrade")
    return target
