"""The door of `doors.py` that says who somebody is, for tests of who gets in."""

from tests.integration.cast import Caller

WHO = "/api/v1/who"
PASSWORD = "correct horse battery"


def refused(headers: dict[str, str]) -> tuple[int, str]:
    answer = Caller(headers).get(WHO)
    if answer.status_code == 401:
        assert answer["WWW-Authenticate"] == "Bearer"
    return answer.status_code, answer.json().get("code", "")
