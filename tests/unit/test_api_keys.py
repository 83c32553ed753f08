"""The text of an API key: what scanners can find and what typing errors cannot pass."""

import re

from hypothesis import given
from hypothesis import strategies as st

from genpulse.auth import keys, names
from genpulse.auth.credentials import Credential
from genpulse.auth.keys import ALPHABET, NewKey
from genpulse.auth.models import User


def credential(*scopes: str) -> Credential:
    return Credential(type="api_key", id="1", name="k", scopes=frozenset(scopes), user=User())


def test_a_key_has_the_documented_form():
    key = NewKey.generate()
    assert re.fullmatch(r"gp_live_[0-9A-Za-z]{57}", key.text)
    assert keys.lookup_of(key.text) == key.lookup == key.text[8:16]
    assert len(key.digest) == 32
    assert key.text.encode() not in key.digest


def test_no_two_are_alike():
    assert len({NewKey.generate().lookup for _ in range(500)}) == 500


@given(st.integers(8, 64), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed_without_a_query(position, character):
    text = NewKey.generate().text
    changed = text[:position] + character + text[position + 1 :]
    assert (keys.lookup_of(changed) is None) == (changed != text)


def test_texts_that_are_no_keys():
    text = NewKey.generate().text
    for other in (
        "",
        "gp_live_",
        text[:-1],
        text + "0",
        text.upper(),
        f" {text}",
        text + "\n",
        "é",
    ):
        assert keys.lookup_of(other) is None


def test_the_digest_is_keyed_and_covers_the_whole_key():
    one, other = NewKey.generate(), NewKey.generate()
    assert keys.matches(one.text, one.digest)
    assert keys.matches(one.text, memoryview(one.digest))
    assert not keys.matches(other.text, one.digest)


def test_a_scope_implies_its_reading_half_and_admin_everything():
    assert credential("tasks").has("tasks:read")
    assert credential("tasks").has("tasks")
    assert not credential("tasks:read").has("tasks")
    assert not credential("tasks").has("media:read")
    assert credential("admin").has("wallet")
    assert not credential("act_as").has("tasks")
    assert credential("act_as").names_others
    assert not credential("tasks").names_others


def test_names():
    for good in ("alice", "a", "@a", "+49:7", "_x", "a.b-c@d:e+f", "x" * 128, "0"):
        assert names.valid(good)
    for bad in ("", ".a", "-a", "a..b", "a b", "a/b", "é", "x" * 129, "a\n", "a\x00", "..", "a#"):
        assert not names.valid(bad)
