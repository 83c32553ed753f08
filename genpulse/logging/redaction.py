"""No key, token or prompt reaches a log: values of known fields pass, everything else is hidden.

An allow-list, because a list of forbidden names forgets the next one. Texts are searched for what
looks like a credential; of an exception only the first line is kept, because further lines quote
rows and inputs.
"""

import re
from collections.abc import MutableMapping
from typing import Any

HIDDEN = "[redacted]"
TEXT_LENGTH = 500  # characters of an event or message
KNOWN_FIELDS = frozenset(
    """time level logger event process
    request_id task_id batch_id attempt attempt_id event_id delivery_id webhook_id hold_id asset_id key_id account_id
    user_id conversation_id executor_id credential_id external_id lease_id
    method path route status code kind reason action outcome stage phase state error exception
    family provider executor model workflow queue worker replica holder epoch node pid port version
    operation door loop chore invariant channel type name storage bucket size
    seconds milliseconds count total number rows bytes limit tries crashes seq progress retries retry_after delay
    threads free draining waiting running admitted released moves group lost duplicated
    fault signal exit_code hint held rss job asset content_type check""".split()  # noqa: SIM905 - a list literal would be a page long
)
CREDENTIALS = re.compile(
    r"""gp_live_[0-9A-Za-z]+
      | eyJ[\w-]+\.[\w-]+(?:\.[\w-]+)?                       # JWT
      | \b(?:sk|pk|rk|ak|whsec|xox\w|ghp|LTAI|AKIA|AIza)[-_]?[0-9A-Za-z_-]{12,}
      | (?<=://)[^/@\s]+(?=@)                                # userinfo of an address
      | (?i:(?<=bearer\s)|(?<=basic\s))[^\s'",]+
      | (?i:(?<=token=)|(?<=key=)|(?<=secret=)|(?<=signature=)|(?<=sig=)|(?<=ticket=)|(?<=password=))[^\s&'",]+
      | data:[\w/+.-]+;base64,[0-9A-Za-z+/=]+
    """,
    re.VERBOSE,
)


def scrub(text: str) -> str:
    """`text` without what looks like a credential, cut to a sensible length."""
    return CREDENTIALS.sub(HIDDEN, text)[:TEXT_LENGTH]


def first_line(error: BaseException | str) -> str:
    """What may be said about an exception."""
    return scrub((str(error).splitlines() or [""])[0])


def redact(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """structlog processor: known fields pass, scrubbed; others keep their name only."""
    return {name: _shown(name, value) for name, value in fields.items()}


def _shown(name: str, value: Any) -> Any:
    if name not in KNOWN_FIELDS:
        return HIDDEN
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_shown(name, item) for item in value]
    return first_line(value) if isinstance(value, BaseException) else scrub(str(value))
