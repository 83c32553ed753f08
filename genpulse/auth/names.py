"""What a user may be called; the same name is `userId` at every door."""

import re

PATTERN = re.compile(r"(?!.*\.\.)[A-Za-z0-9_@:+][A-Za-z0-9._@:+-]{0,127}", re.ASCII)


def valid(name: str) -> bool:
    """True for `^[A-Za-z0-9_@:+][A-Za-z0-9._@:+-]{0,127}$` without `..`."""
    return PATTERN.fullmatch(name) is not None
