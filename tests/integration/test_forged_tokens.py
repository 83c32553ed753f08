"""Access tokens that were not made by us, or not for this."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from genpulse.auth import login, services, tokens
from genpulse.auth.models import User
from genpulse.config import config
from genpulse.errors import InvalidCredentials
from genpulse.ids import new_id
from tests.integration.entrance import PASSWORD, refused

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.doors")]


@pytest.fixture
def alice() -> User:
    return services.create_user("alice", email="Alice@Example.com", password=PASSWORD)


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forged(user: User) -> dict[str, str]:
    """Tokens that a careless verifier has taken at some time, somewhere."""
    now = int(time.time())
    good = {
        "iss": "genpulse",
        "aud": "genpulse",
        "sub": str(user.id),
        "jti": str(new_id()),
        "iat": now,
        "exp": now + 600,
        "use": "access",
        "pwd": tokens.password_mark(user),
    }
    key = tokens.signing_key()

    def signed(header: Any, claims: Any, secret: bytes = key, digest: str = "sha256") -> str:
        text = f"{encoded(header)}.{encoded(claims)}"
        return f"{text}.{encoded(hmac.digest(secret, text.encode(), digest))}"

    hs256 = {"alg": "HS256", "typ": "JWT"}
    header, claims, signature = signed(hs256, good).split(".")
    without = {
        f"no {name}": signed(hs256, {k: v for k, v in good.items() if k != name}) for name in good
    }
    assert jwt.decode(signed(hs256, good), key, algorithms=["HS256"], audience="genpulse")
    return {
        "alg none": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}.",
        "alg None": f"{encoded({'alg': 'None', 'typ': 'JWT'})}.{claims}.",
        "alg nOnE, signed": signed({"alg": "nOnE", "typ": "JWT"}, good),
        "alg HS512": signed({"alg": "HS512", "typ": "JWT"}, good, digest="sha512"),
        "alg RS256": signed({"alg": "RS256", "typ": "JWT"}, good),
        "alg missing": signed({"typ": "JWT"}, good),
        "alg is a list": signed({"alg": ["HS256"], "typ": "JWT"}, good),
        "kid path": signed({**hs256, "kid": "../../dev/null"}, good),
        "kid SQL": signed({**hs256, "kid": "x' UNION SELECT 'k"}, good, b"k"),
        "jku": signed({**hs256, "jku": "http://evil.example/keys"}, good),
        "x5u": signed({**hs256, "x5u": "http://evil.example/cert"}, good),
        "jwk": signed({**hs256, "jwk": {"kty": "oct", "k": "AA"}}, good, b"\x00"),
        "crit": signed({**hs256, "crit": ["exp"]}, good),
        "b64 false": signed({**hs256, "b64": False, "crit": ["b64"]}, good),
        "zip": signed({**hs256, "zip": "DEF"}, good),
        "another typ": signed({"alg": "HS256", "typ": "at+jwt"}, good),
        "empty secret": signed(hs256, good, b""),
        "public secret": signed(hs256, good, b"secret"),
        "the settings' secret itself": signed(hs256, good, config.secret_key.encode()),
        "no signature": f"{header}.{claims}.",
        "signature of another": f"{header}.{encoded({**good, 'sub': str(new_id())})}.{signature}",
        "cut signature": f"{header}.{claims}.{signature[:-4]}",
        "four parts": f"{header}.{claims}.{signature}.{signature}",
        "two parts": f"{header}.{claims}",
        "another issuer": signed(hs256, {**good, "iss": "evil"}),
        "another audience": signed(hs256, {**good, "aud": "uploads"}),
        "a list of audiences": signed(hs256, {**good, "aud": ["other"]}),
        "a refresh token": signed(hs256, {**good, "use": "refresh"}),
        "an upload key": signed(hs256, {**good, "use": "upload", "scope": "upload"}),
        "expired": signed(hs256, {**good, "exp": now - 1}),
        "exp is text": signed(hs256, {**good, "exp": "never"}),
        "exp is endless": signed(hs256, {**good, "exp": 10**30}),
        "exp is null": signed(hs256, {**good, "exp": None}),
        "issued tomorrow": signed(hs256, {**good, "iat": now + 86400}),
        "not before tomorrow": signed(hs256, {**good, "nbf": now + 86400}),
        "subject by name": signed(hs256, {**good, "sub": user.name}),
        "subject is a number": signed(hs256, {**good, "sub": 1}),
        "unknown subject": signed(hs256, {**good, "sub": str(new_id())}),
        "SQL subject": signed(hs256, {**good, "sub": "' OR 1=1 --"}),
        "jti is no id": signed(hs256, {**good, "jti": "x"}),
        "an old password": signed(hs256, {**good, "pwd": hashlib.sha256().hexdigest()[:16]}),
        "claims are a list": signed(hs256, [good]),
        "claims are no JSON": f"{header}.{encoded(b'x')}.{signature}",
        "header is no JSON": f"eyJ.{claims}.{signature}",
        "role in the claims": signed(hs256, {**good, "role": "admin", "sub": str(new_id())}),
        **without,
    }


class TestForgedTokens:
    def test_none_is_taken(self, alice):
        table = forged(alice)
        assert len(table) > 40
        taken = {
            name: status
            for name, token in table.items()
            if (status := refused({"Authorization": f"Bearer {token}"})[0]) != 401
        }
        assert taken == {}

    def test_every_changed_byte_of_header_and_signature_is_noticed(self, alice):
        token = login.pair(alice).access
        body = token.index("."), token.rindex(".")
        positions = [*range(body[0]), *range(body[1] + 1, len(token) - 1)]
        for position in positions:
            other = "A" if token[position] != "A" else "B"
            changed = token[:position] + other + token[position + 1 :]
            with pytest.raises(InvalidCredentials):
                tokens.read(changed, "access")

    def test_a_token_in_another_scheme_is_none(self, alice):
        token = login.pair(alice).access
        assert refused({"Authorization": f"Bearer {token}x"})[0] == 401
        assert refused({"Authorization": f"Bearer {token}"}) == (200, "")
