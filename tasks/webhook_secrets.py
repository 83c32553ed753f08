"""Secrets of webhooks: Standard Webhooks, `whsec_` + base64 of 32 bytes, encrypted at rest for their row."""

import base64
import hashlib
import hmac
import os
from datetime import datetime, timedelta
from uuid import UUID

from django.utils import timezone

from admin_integrations import vault
from tasks.models import WebhookEndpoint, WebhookSecret

PREFIX = "whsec_"
BYTES = 32


def new_secret() -> str:
    return PREFIX + base64.b64encode(os.urandom(BYTES)).decode()


def signature(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>` over `{id}.{timestamp}.{body}`."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.digest(key, b"%s.%d.%s" % (id_.encode(), timestamp, body), hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def owner_of(row: WebhookEndpoint | WebhookSecret) -> UUID:
    """The id a row's secrets are bound to."""
    return row.id if isinstance(row, WebhookEndpoint) else row.account_id


def of_account(account_id: UUID) -> WebhookSecret:
    """The default secret of an account, made when it is first needed."""
    row, _ = WebhookSecret.objects.get_or_create(
        account_id=account_id,
        defaults={"ciphertext": vault.encrypt(new_secret(), owner=account_id)},
    )
    return row


def valid(row: WebhookEndpoint | WebhookSecret) -> list[str]:
    """The secret, and during a rotation the one before it. Raises VaultError."""
    texts = [row.ciphertext]
    if row.previous_valid_until and row.previous_valid_until > timezone.now():
        texts.append(row.previous_ciphertext)
    return [vault.decrypt(text, owner=owner_of(row)) for text in texts]


def rotate(row: WebhookEndpoint | WebhookSecret, overlap_hours: int) -> tuple[str, datetime]:
    """A new secret; the old one is used beside it until the time answered."""
    secret = new_secret()
    row.previous_ciphertext = row.ciphertext
    row.previous_valid_until = timezone.now() + timedelta(hours=overlap_hours)
    row.ciphertext = vault.encrypt(secret, owner=owner_of(row))
    row.save(update_fields=["ciphertext", "previous_ciphertext", "previous_valid_until"])
    return secret, row.previous_valid_until
