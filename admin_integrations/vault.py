"""Vendor keys at rest: AES-GCM with the owner's row id as associated data, so that no ciphertext fits another row.

`ENCRYPTION_KEYS` is `id:base64,id2:base64` (32 bytes each): the first one encrypts, every one decrypts. The stored
text is `id:base64(nonce + ciphertext)`.
"""

import base64
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from genpulse.config import config

NONCE = 12


class VaultError(Exception):
    """A stored secret cannot be read: unknown key id, another row's text, or it was altered."""


def keys() -> dict[str, bytes]:
    """Key id -> 32 bytes, the encrypting one first. Raises VaultError."""
    try:
        pairs = [part.split(":", 1) for part in config.encryption_keys.split(",") if part]
        found = {name.strip(): base64.b64decode(value, validate=True) for name, value in pairs}
    except ValueError as error:
        raise VaultError("ENCRYPTION_KEYS is not id:base64,...") from error
    if not found or any(len(value) != 32 for value in found.values()):
        raise VaultError("ENCRYPTION_KEYS needs keys of 32 bytes")
    return found


def encrypt(secret: str, *, owner: UUID) -> str:
    """`secret` for the row `owner`."""
    key_id, key = next(iter(keys().items()))
    nonce = os.urandom(NONCE)
    sealed = nonce + AESGCM(key).encrypt(nonce, secret.encode(), owner.bytes)
    return f"{key_id}:{base64.b64encode(sealed).decode()}"


def decrypt(text: str, *, owner: UUID) -> str:
    """The secret of the row `owner`. Raises VaultError."""
    key_id, _, encoded = text.partition(":")
    key = keys().get(key_id)
    if key is None:
        raise VaultError(f"no encryption key {key_id!r}")
    try:
        sealed = base64.b64decode(encoded, validate=True)
        return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], owner.bytes).decode()
    except (InvalidTag, ValueError) as error:
        raise VaultError("the secret does not belong to this row, or was altered") from error
