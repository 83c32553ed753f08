"""An address is what every parser agrees on, or it is refused."""

import pytest

from providers.urls import Origin, address_of, origin_of, redirected, same_origin

BASE = "https://api.vendor.example/v1"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.Vendor.example/v1", Origin("https", "api.vendor.example", 443)),
        ("http://localhost:8188", Origin("http", "localhost", 8188)),
        ("https://bücher.example", Origin("https", "xn--bcher-kva.example", 443)),
        ("https://api.vendor.example.:443/x", Origin("https", "api.vendor.example", 443)),
        ("http://[::1]:9000/", Origin("http", "::1", 9000)),
    ],
)
def test_origins(url, origin):
    assert origin_of(url) == origin


def test_an_origin_is_written_as_an_address():
    assert str(origin_of("http://[::1]:9000/v1")) == "http://[::1]:9000"
    assert str(origin_of(BASE)) == "https://api.vendor.example:443"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.vendor.example",
        "ftp://api.vendor.example",
        "file:///etc/passwd",
        "https://",
        "https:///v1",
        "https://user:pw@api.vendor.example",
        "https://api.vendor.example@evil.example",
        "https://evil.example\\@api.vendor.example",
        "https://api.vendor.example\t.evil.example",
        "https://api.vendor.example\r\nHost: evil.example",
        "https://api.vendor.example:99999",
        "https://api.vendor.example:port",
        "https://api..vendor.example",
        "https://[::1",
        "https://api.vendor.example/\x00",
    ],
)
def test_what_two_parsers_could_read_differently(url):
    with pytest.raises(ValueError, match=r".*"):
        origin_of(url)

    assert not same_origin(BASE, url)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/images", f"{BASE}/images"),
        ("images", f"{BASE}/images"),
        ("//evil.example/x", f"{BASE}/evil.example/x"),
        ("@evil.example/x", f"{BASE}/@evil.example/x"),
        (".evil.example", f"{BASE}/.evil.example"),
        ("/view?file=http://evil.example", f"{BASE}/view?file=http://evil.example"),
        ("https://api.vendor.example/other", "https://api.vendor.example/other"),
        ("HTTPS://API.vendor.example:443/other", "HTTPS://API.vendor.example:443/other"),
    ],
)
def test_paths_stay_at_the_origin(path, address):
    assert address_of(BASE, path) == address
    assert same_origin(address, BASE)


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/v1",
        "http://api.vendor.example/v1",
        "https://api.vendor.example:444/v1",
        "https://api.vendor.example.evil.example/",
        "https://api.vendor.example@evil.example/",
        "/../admin",
        "/files/%2e%2e/admin",
        "/files/..",
        "/x y",
        "/x\r\nX-Evil: 1",
    ],
)
def test_paths_that_lead_away_are_refused(path):
    with pytest.raises(ValueError, match=r".*"):
        address_of(BASE, path)


def test_a_redirect_never_leaves_encryption():
    assert redirected(f"{BASE}/file", "/cdn/file") == "https://api.vendor.example/cdn/file"
    assert redirected(f"{BASE}/file", "https://cdn.example/f") == "https://cdn.example/f"
    with pytest.raises(ValueError, match="downgrade"):
        redirected(f"{BASE}/file", "http://api.vendor.example/file")
