"""Which addresses requests may go to: the parsing and judging half of the guard.

A URL is parsed once, by the parser of the HTTP client itself, and everything later uses the parts, so
that no two readers can disagree about the host.
"""

import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from genpulse.config import config
from genpulse.errors import UrlNotAllowed

Purpose = Literal["input", "result", "callback"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LONGEST = 8192
RESOLVE_SECONDS = 5.0
HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\Z")
PORTS = {"http": 80, "https": 443}

# https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-: written out, because what
# Python calls global differs between its patch releases.
NOT_PUBLIC_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",
        ),
    )
)
PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
NOT_PUBLIC_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20"),
    )
)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart. `host` is canonical: lower case, IDNA, no final dot, no brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse(url: str) -> Target:
    """Raises UrlNotAllowed for everything but a plain absolute http(s) URL."""
    if not 0 < len(url) <= LONGEST:
        raise UrlNotAllowed("The URL is empty or too long.")
    if "\\" in url or any(ord(char) <= 32 or 127 <= ord(char) < 160 for char in url):
        raise UrlNotAllowed("The URL holds a backslash, a space or a control character.")
    try:
        parts = parse_url(url)
    except (LocationParseError, ValueError) as error:
        raise UrlNotAllowed("The URL cannot be read.") from error
    if parts.scheme not in PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        raise UrlNotAllowed("The URL must begin with http:// or https://.")
    if parts.auth is not None or "@" in (parts.netloc or ""):
        raise UrlNotAllowed("The URL must not hold a user name.")
    port = parts.port if parts.port is not None else PORTS[parts.scheme]
    return Target(parts.scheme, _canonical(parts.host or ""), port, parts.request_uri)


def _canonical(host: str) -> str:
    if host.startswith("["):
        literal = host[1:-1]
        try:
            return str(ipaddress.IPv6Address(literal if "%" not in literal else ""))
        except ValueError as error:
            raise UrlNotAllowed("The host is not an IPv6 address.") from error
    host = host.lower().removesuffix(".")
    if not HOST.match(host):
        raise UrlNotAllowed("The host is not a name or an address.")
    # As in the WHATWG URL standard: a last label that is a number makes it an IPv4 address, and of
    # the many spellings (2130706433, 0x7f.1, 0177.0.0.1) only the plain one is accepted.
    last = host.rpartition(".")[2]
    if last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError as error:
            raise UrlNotAllowed("The host is not a plain IPv4 address.") from error
    return host


def judge(target: Target, purpose: Purpose, also: Sequence[str] = ()) -> list[str]:
    """The addresses `target` may be reached at, in the resolver's order.

    Raises UrlNotAllowed when the host is neither named by OUTBOUND_ALLOWED_HOSTS (or `also`, same
    form: `host:port`, `host:*`) nor public in **every** address it resolves to.
    """
    if purpose == "callback" and config.production and target.scheme != "https":
        raise UrlNotAllowed("Callbacks must use https.")
    trusted = {f"{target.host}:{target.port}", f"{target.host}:*"} & {
        pattern.lower() for pattern in (*(config.outbound_allowed_hosts or ()), *also)
    }
    if not trusted and target.port < 1024 and target.port not in PORTS.values():
        raise UrlNotAllowed("This port is not used for HTTP.")
    addresses = resolve(target.host, target.port)
    if not trusted and not all(is_public(address) for address in addresses):
        raise UrlNotAllowed("The host is not on the public internet.")
    return addresses


def resolve(host: str, port: int) -> list[str]:
    """All addresses of `host`. Raises UrlNotAllowed when there is none within five seconds."""
    answers: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(item[4][0]) for item in found)))
        except (OSError, UnicodeError):
            answers.put([])

    # getaddrinfo knows no time-out, and the name server may be the attacker's.
    threading.Thread(target=look_up, daemon=True).start()
    try:
        addresses = answers.get(timeout=RESOLVE_SECONDS)
    except queue.Empty:
        addresses = []
    if not addresses:
        raise UrlNotAllowed("The host cannot be found.")
    return addresses


def is_public(text: str) -> bool:
    """True for a unicast address of the public internet, also behind mapping, 6to4 and NAT64."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is None:
            return address in PUBLIC_V6 and not any(address in net for net in NOT_PUBLIC_V6)
        address = inner
    return not any(address in net for net in NOT_PUBLIC_V4)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
