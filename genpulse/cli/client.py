"""The HTTP API as the command line uses it: standard library only, so that commands start at once."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit


class ApiError(Exception):
    """The API refused; `status` is its HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(detail)


class Client:
    """Speaks JSON with the instance at `base_url`, with `key`, for `user` (None: the key's own)."""

    def __init__(self, base_url: str, key: str = "", *, user: str | None = None) -> None:
        self.base_url = base_url
        self.headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        if user:
            self.headers["X-GenPulse-User"] = user

    def get(self, path: str, *, timeout: float = 30) -> Any:
        return self._send("GET", path, None, timeout)

    def post(self, path: str, body: dict[str, Any], *, timeout: float = 30) -> Any:
        return self._send("POST", path, body, timeout)

    def put(self, path: str, body: dict[str, Any], *, timeout: float = 30) -> Any:
        return self._send("PUT", path, body, timeout)

    def delete(self, path: str, *, timeout: float = 30) -> Any:
        return self._send("DELETE", path, None, timeout)

    def _send(self, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> Any:
        """The parsed answer. Raises ApiError (status >= 400) and OSError (nobody there)."""
        address = urlsplit(self.base_url)
        kind = (
            http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(address.netloc, timeout=timeout)
        try:
            connection.request(method, path, json.dumps(body) if body else None, self.headers)
            answer = connection.getresponse()
            text = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
        return _parsed(answer.status, text)


def _parsed(status: int, text: bytes) -> Any:
    try:
        answer = json.loads(text)
    except ValueError:
        raise ApiError(status, f"HTTP {status}") from None
    if status >= 400:
        raise ApiError(status, str(answer.get("detail") or f"HTTP {status}"))
    return answer


def is_ready(base_url: str) -> bool:
    """Whether `/ready` answers 200."""
    try:
        Client(base_url).get("/ready", timeout=5)
    except (ApiError, OSError):
        return False
    return True
