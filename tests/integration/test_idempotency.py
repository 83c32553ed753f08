"""One Idempotency-Key, one object: whoever comes second, late, or with something else."""

import json
from datetime import timedelta
from threading import Event as Signal
from threading import Thread
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from genpulse.auth.models import User
from genpulse.events.models import Event
from genpulse.http import idempotency
from genpulse.http.idempotency import Answer, Scope, fingerprint, idempotent
from genpulse.http.models import Idempotency
from tests.integration.cast import caller
from tests.integration.crowd import at_once

pytestmark = pytest.mark.urls("tests.integration.doors")
NOTES = "/api/v1/notes"


def notes() -> int:
    return Event.objects.filter(type="note").count()


@pytest.mark.django_db
class TestReplay:
    @pytest.fixture
    def alice(self):
        return caller("alice")

    def test_the_first_answer_again_with_urls_signed_anew(self, alice):
        first = alice.post(NOTES, {"text": "a"}, Idempotency_Key="k")
        again = alice.post(NOTES, {"text": "a"}, Idempotency_Key="k")
        assert (first.status_code, again.status_code) == (201, 201)
        assert "Idempotency-Replayed" not in first
        assert again["Idempotency-Replayed"] == "true"
        assert again["Location"] == first["Location"]
        said, repeated = first.json(), again.json()
        assert said["items"][0].pop("url") != repeated["items"][0].pop("url")
        assert json.dumps(said) == json.dumps(repeated)
        assert notes() == 1

    def test_nothing_kept_holds_input_output_or_url(self, alice):
        alice.post(NOTES, {"text": "a"}, Idempotency_Key="k")
        kept = Idempotency.objects.get().body or ""
        assert "signed-" not in kept
        assert json.loads(kept)["output"] is True
        assert list(json.loads(kept)) == ["zebra", "id", "output", "items", "purged", "big"]

    def test_what_was_null_at_first_stays_null(self):
        """The task may have its output when the twin is answered; the first answer had none."""
        scope = Scope(owner="alice", route="r", key="k", fingerprint=fingerprint({}))
        first = Answer(status=201, body={"output": None, "input": {"a": 1}}, object_id=uuid4())
        now = {"output": {"text": "a kite"}, "input": {"a": 1}}
        for _ in range(2):
            said = idempotent(scope, create=lambda: first, refresh=lambda _: now)
            assert said.body == first.body
        assert said.replayed

    def test_purged_content_shows_null(self, alice):
        alice.post(NOTES, {"text": "a"}, Idempotency_Key="k")
        Event.objects.update(data={"text": "gone"})
        again = alice.post(NOTES, {"text": "a"}, Idempotency_Key="k").json()
        assert (again["purged"], again["output"], again["zebra"]) == (True, {"text": "GONE"}, "a")

    def test_an_object_that_is_gone_is_not_found(self, alice):
        alice.post(NOTES, {"text": "a"}, Idempotency_Key="k")
        Event.objects.all().delete()
        assert alice.post(NOTES, {"text": "a"}, Idempotency_Key="k").status_code == 404

    def test_large_answers_are_rebuilt_from_the_object(self, alice):
        first = alice.post(NOTES, {"text": "big"}, Idempotency_Key="k")
        again = alice.post(NOTES, {"text": "big"}, Idempotency_Key="k")
        assert Idempotency.objects.get().body is None
        assert again.json()["id"] == first.json()["id"]

    @pytest.mark.parametrize("text", ["", "poor", "secret", "away"])
    def test_a_refused_request_leaves_the_key_free(self, alice, text):
        assert alice.post(NOTES, {"text": text}, Idempotency_Key="k").status_code >= 400
        assert not Idempotency.objects.exists()
        answer = alice.post(NOTES, {"text": "fine"}, Idempotency_Key="k")
        assert answer.status_code == 201
        assert "Idempotency-Replayed" not in answer

    def test_another_body_is_refused(self, alice):
        alice.post(NOTES, {"text": "a"}, Idempotency_Key="k")
        answer = alice.post(NOTES, {"text": "b"}, Idempotency_Key="k")
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert notes() == 1

    def test_the_order_of_members_and_white_space_are_no_difference(self, alice):
        alice("POST", NOTES, b'{"text": "a", "idempotency_key": "k"}')
        answer = alice("POST", NOTES, b'{ "idempotency_key":"k","text":"\\u0061" }')
        assert answer["Idempotency-Replayed"] == "true"

    def test_owners_do_not_share_keys(self, alice):
        alice.post(NOTES, {"text": "a"}, Idempotency_Key="k")
        assert "Idempotency-Replayed" not in caller("bob").post(
            NOTES, {"text": "a"}, Idempotency_Key="k"
        )
        service = caller("shop", "act_as", "tasks")
        for_alice = service.post(NOTES, {"text": "a"}, Idempotency_Key="k", X_GenPulse_User="alice")
        assert for_alice["Idempotency-Replayed"] == "true"
        assert notes() == 2

    def test_a_day_later_the_key_is_free(self, alice):
        alice.post(NOTES, {"text": "a"}, Idempotency_Key="k")
        Idempotency.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
        answer = alice.post(NOTES, {"text": "b"}, Idempotency_Key="k")
        assert (answer.status_code, notes()) == (201, 2)

    def test_old_rows_are_purged_in_portions(self, alice):
        for n in range(5):
            alice.post(NOTES, {"text": "a"}, Idempotency_Key=f"k{n}")
        old = Idempotency.objects.order_by("pk")[:3].values("pk")
        Idempotency.objects.filter(pk__in=old).update(
            created_at=timezone.now() - timedelta(hours=25)
        )
        assert [idempotency.purge_expired(portion=2) for _ in range(2)] == [3, 0]
        assert Idempotency.objects.count() == 2

    @pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "é"])
    def test_keys_that_cannot_be_read(self, alice, key):
        answer = alice.post(NOTES, {"text": "a"}, Idempotency_Key=key)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_header")

    @pytest.mark.parametrize("key", ["x", "x" * 255, " ~", "order-7781"])
    def test_keys_that_can(self, alice, key):
        assert alice.post(NOTES, {"text": "a"}, Idempotency_Key=key).status_code == 201

    def test_header_and_member_must_agree(self, alice):
        body = {"text": "a", "idempotency_key": "k"}
        assert alice.post(NOTES, body, Idempotency_Key="k").status_code == 201
        assert alice.post(NOTES, body)["Idempotency-Replayed"] == "true"
        answer = alice.post(NOTES, body, Idempotency_Key="other")
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "idempotency_key"
        assert alice.post(NOTES, {"text": "a", "idempotency_key": 5}).status_code == 422


def test_files_count_as_part_of_the_body():
    assert fingerprint({"a": 1}, [("file", b"1")]) != fingerprint({"a": 1}, [("file", b"2")])
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})


@pytest.mark.django_db(transaction=True)
class TestTwins:
    def test_fifty_at_once_make_one_object_and_one_user(self):
        service = caller("shop", "act_as", "tasks")

        def post(_):
            return service.post(
                NOTES, {"text": "slow"}, Idempotency_Key="k", X_GenPulse_User="carol"
            )

        answers = at_once(50, post)
        assert [answer.status_code for answer in answers] == [201] * 50
        assert sum(answer.get("Idempotency-Replayed") == "true" for answer in answers) == 49
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert notes() == 1
        assert User.objects.filter(name="carol").count() == 1

    def test_fifty_first_writes_of_an_unknown_user_make_one_user(self):
        service = caller("shop", "act_as", "tasks")
        answers = at_once(
            50, lambda n: service.post(NOTES, {"text": str(n)}, X_GenPulse_User="carol")
        )
        assert [answer.status_code for answer in answers] == [201] * 50
        assert (notes(), User.objects.filter(name="carol").count()) == (50, 1)

    def test_when_the_first_is_refused_one_of_the_others_creates(self):
        alice = caller("alice")
        at_once(20, lambda n: alice.post(NOTES, {"text": "poor"}, Idempotency_Key="k"))
        assert (notes(), Idempotency.objects.count()) == (0, 0)

    def test_patience_ends_with_in_progress(self, monkeypatch):
        monkeypatch.setattr(idempotency, "CLAIM", idempotency.CLAIM.replace("9500ms", "200ms"))
        alice, written, done = caller("alice"), Signal(), Signal()

        def first():
            with transaction.atomic():
                Idempotency.objects.create(
                    owner="alice", route=f"POST {NOTES}", key="k", fingerprint=b""
                )
                written.set()
                done.wait(30)
            connection.close()

        thread = Thread(target=first)
        thread.start()
        assert written.wait(30)
        try:
            answer = alice.post(NOTES, {"text": "a"}, Idempotency_Key="k")
        finally:
            done.set()
            thread.join()
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_progress")
        assert answer["Retry-After"] == "1"
        assert notes() == 0

    def test_the_patience_for_twins_does_not_outlast_the_claim(self):
        def lock_timeout() -> Answer:
            with connection.cursor() as cursor:
                cursor.execute("SHOW lock_timeout")
                return Answer(status=200, body={"timeout": cursor.fetchone()[0]})

        scope = Scope(owner="a", route="r", key="k", fingerprint=b"")
        assert idempotent(scope, create=lock_timeout).body == {"timeout": "3s"}
