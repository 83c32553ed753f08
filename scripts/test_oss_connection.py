#!/usr/bin/env python
"""Asks the OSS bucket of the environment for its name and region. Missing variables: exit 1 naming each."""

import sys

import _venv  # noqa: F401 - first

from genpulse.cli.app import read_dotenv

NEEDED = ("OSS_ENDPOINT", "OSS_BUCKET", "OSS_ACCESS_KEY", "OSS_SECRET_KEY")


def main() -> None:
    read_dotenv()
    from genpulse.config import config

    missing = [name for name in NEEDED if not getattr(config, name.lower())]
    if missing:
        sys.exit("".join(f"{name} is not set\n" for name in missing).rstrip())
    sys.stdout.write("".join(f"{line}\n" for line in describe()))


def describe() -> list[str]:
    """Exits with 1 when the bucket does not answer."""
    import oss2

    from genpulse.config import config

    auth = oss2.Auth(config.oss_access_key, config.oss_secret_key)
    bucket = oss2.Bucket(auth, config.oss_endpoint, config.oss_bucket, connect_timeout=10)
    try:
        found = bucket.get_bucket_info()
    except oss2.exceptions.OssError as error:
        sys.exit(f"the bucket does not answer: {error.code or type(error).__name__}")
    return [f"Bucket: {found.name}", f"Region: {config.oss_region or found.location}"]


if __name__ == "__main__":
    main()
