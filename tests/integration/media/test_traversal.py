"""No spelling of a path leaves the folder, neither by a name nor by a key."""

import io
from contextlib import suppress
from urllib.parse import quote, unquote

import pytest
from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import SimpleUploadedFile

from genpulse.errors import NotFound
from media import services, signing, storages
from media.keys import checked
from media.models import Asset
from media.storages import storage
from tests.integration.media.conftest import local

SECRET = b"the secret beside the folder"
TARGETS = ["secret.txt", "etc/passwd", "assets/../secret.txt", "windows/win.ini"]
UPS = [
    "../", "..\\", "....//", "..../", "../../", "../../../../../../", "..\\..\\", "./../", "/../", "//../",
    "%2e%2e/", "%2e%2e%2f", "..%2f", "..%5c", "%2e%2e%5c", ".%2e/", "%252e%252e%252f", "..%252f", "..%255c",
    "%c0%ae%c0%ae/", "..%c0%af", "..%c1%9c", "%uff0e%uff0e%u2215", "\uff0e\uff0e/", "\u2025/", "..\u2215", "..\u2044",
    "..\x00/", "..%00/", "..;/", "..././", ".../", ". ./", " ../", "\t../", "..\n/", "t/../../", "t/x/../../../",
    "r/../../", "/", "//", "///", "\\", "\\\\", "\\\\host\\share\\", "C:", "C:\\", "C:/", "c:..\\", "file:///",
    "/proc/self/root/", "/proc/self/cwd/../", "~/", "~root/", "$HOME/", "${HOME}/", "`pwd`/", "|cat ", "t//", "t/./",
    "t/./../..", "-rf ", "--", "\u202e../", "..\u200b/", "\ufeff../", "CON/", "NUL/", "aux/", "t\\..\\..\\",
    "\u00e9/../../", "%ff../", "..\r\n/", "../\u0000", "t/%2e%2e/%2e%2e/%2e%2e/",
]  # fmt: skip
CORPUS = sorted({up + target for up in UPS for target in TARGETS})


@pytest.fixture(autouse=True)
def secret(tmp_path, storage_folder):
    storage_folder.mkdir(parents=True)
    (tmp_path / "secret.txt").write_bytes(SECRET)
    yield
    outside = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and storage_folder not in path.parents
    ]
    assert [path.name for path in outside] == ["secret.txt"]
    assert outside[0].read_bytes() == SECRET


def test_the_corpus_is_large():
    assert len(CORPUS) >= 300


@pytest.mark.django_db
def test_as_a_file_name_it_is_only_words(alice, storage_folder):
    for name in CORPUS:
        asset = services.store(alice.account_id, b"x", origin="upload", filename=name)
        assert "/" not in asset.filename
        assert "\\" not in asset.filename
        assert asset.key == f"t/{alice.account_id.hex}/{asset.key.split('/')[2]}/{asset.id.hex}.txt"
        assert (storage_folder / asset.key).is_file()


@pytest.mark.django_db
def test_as_a_file_name_of_a_form_it_is_only_words(api):
    for name in CORPUS[::10]:
        answer = api.post("/api/v1/media", {"file": SimpleUploadedFile(name or "x", b"x")})
        if answer.status_code == 201:
            assert "/" not in answer.json()["filename"]
        else:
            assert 400 <= answer.status_code < 500


@pytest.mark.django_db
def test_as_a_signed_key_it_is_unknown(client):
    """Even with a signature of our own, which nobody else can make."""
    for text in CORPUS:
        for key in {text, unquote(text)}:
            signed = signing.sign_path("read", key, f"/assets/{key}", 60)
            answer = client.get(local(signed.url))
            assert answer.status_code in {403, 404}, key
            raw = f"/assets/{quote(text, safe='/%')}?{signed.url.partition('?')[2]}"
            assert client.get(raw).status_code in {403, 404}, raw


@pytest.mark.django_db
def test_even_a_row_with_such_a_key_is_not_served(alice, client, storage_folder):
    asset = services.store(alice.account_id, b"x", origin="upload")
    Asset.objects.filter(id=asset.id).update(key="t/../../secret.txt")
    signed = signing.sign_path("read", "t/../../secret.txt", "/assets/t/../../secret.txt", 60)
    assert client.get(local(signed.url)).status_code == 404


def test_no_key_of_that_kind_is_written_read_moved_or_deleted(storage_folder):
    """What remains of the corpus spells folders inside ours (`CON/secret.txt`)."""
    for text in CORPUS:
        with pytest.raises((NotFound, FileNotFoundError)):
            services.open_raw(text)
        with suppress(NotFound):
            storages.write(text, io.BytesIO(b"x"), "text/plain")
        with suppress(NotFound):
            services.delete_raw(text)
    for text in ("../secret.txt", "/etc/passwd", "t/../../secret.txt"):
        for deed in (storage().open, storage().delete, storage().exists):
            with pytest.raises(SuspiciousOperation):
                deed(text)
        with pytest.raises(SuspiciousOperation):
            storage().move(text, "t/a/b/c.txt")
        with pytest.raises(SuspiciousOperation):
            storage().move("t/a/b/c.txt", text)


@pytest.mark.parametrize(
    "key",
    [
        "t/0199/202611/0199.png",
        "r/0199/1/0",
        "uploads/alice@example.com/20261121/0199.png",
        "u/0199",
    ],
)
def test_ours_pass(key):
    assert checked(key) == key
