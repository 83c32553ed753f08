"""Names of stored bytes: made of ids and an extension from the allow-list, never of a user's words."""

import re
from datetime import datetime
from uuid import UUID

from genpulse.errors import NotFound

PART = r"[A-Za-z0-9_@:+][A-Za-z0-9_.@:+-]*"
KEY = re.compile(rf"{PART}(?:/{PART}){{1,7}}")


def asset_key(account_id: UUID, asset_id: UUID, extension: str, now: datetime) -> str:
    return f"t/{account_id.hex}/{now:%Y%m}/{asset_id.hex}.{extension}"


def thumbnail_key(key: str) -> str:
    return f"{key.rpartition('.')[0]}.thumb.webp"


def raw_key(task_id: UUID, attempt: int, index: int) -> str:
    """Inline bytes of a vendor's answer, kept until the attempt's results are stored."""
    return f"r/{task_id.hex}/{attempt:d}/{index:d}"


def upload_key(upload_id: UUID) -> str:
    """Where a client may write until the upload is finished."""
    return f"u/{upload_id.hex}"


def checked(key: str) -> str:
    """`key` if it can be one of ours. Raises NotFound for everything else, without a look at the disk."""
    if len(key) > 512 or ".." in key or not KEY.fullmatch(key):
        raise NotFound
    return key
