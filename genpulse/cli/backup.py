"""backup and restore: one tar file with the database, a manifest, local assets, and the instance's own secrets."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any

import typer

import genpulse
from genpulse.cli.audit import report
from genpulse.cli.instance import DATABASE_NAMES, Instance, given, in_production
from genpulse.cli.terminal import DEFAULT_DATA, WRONG_USAGE, Data, django, err, fail, set_up_django
from genpulse.embedded import Postgres, ServerError
from genpulse.embedded.postgres import wheel
from genpulse.refusals import ConfigError

commands = typer.Typer()
FORMAT = 1
SECRETS = ("secret_key", "encryption_keys", "admin.key")  # without them rows cannot be read
ASSETS = """
SELECT key, size, sha256 FROM media_asset WHERE deleted_at IS NULL
UNION ALL SELECT thumbnail_key, NULL, NULL FROM media_asset WHERE deleted_at IS NULL AND thumbnail_key > ''
ORDER BY 1
"""
# Transaction ids of another server order nothing here; all of these events are older than the new ones.
REORDER = "UPDATE events_event SET xid = '1'::xid8, floor = '1'::xid8"


@commands.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Written with mode 600: it holds secrets.")],
    data: Data = DEFAULT_DATA,
) -> None:
    """Database, manifest of assets, local assets and secrets in one file; beside a working instance."""
    if file.exists():
        fail(f"{file} exists; choose another name")
    part = file.with_name(f"{file.name}.part")
    with django(data) as instance:
        try:
            with os.fdopen(
                os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
            ) as sink:
                counts = _write(instance, sink)
            part.rename(file)
        except (OSError, ServerError) as error:
            fail(f"no backup: {error}")
        finally:
            part.unlink(missing_ok=True)
    err.print(f"{file}: {counts}", markup=False)


def _write(instance: Instance, sink: IO[bytes]) -> str:
    with tarfile.open(fileobj=sink, mode="w") as tar, tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "database.dump"
        assets = _dump(dump)
        manifest = {"format": FORMAT, "version": genpulse.__version__, **_where(), "assets": assets}
        _add(tar, "manifest.json", json.dumps(manifest).encode())
        tar.add(dump, "database.dump")
        for name in SECRETS:
            if (instance.home / name).exists():
                _add(tar, f"secrets/{name}", (instance.home / name).read_bytes())
        stored = _add_assets(tar, [asset["key"] for asset in assets])
    return f"database, {len(assets)} files of assets known, {stored} of them inside"


def _where() -> dict[str, str]:
    from genpulse.config import config

    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"created_at": now, "storage": config.storage_type}


def _dump(path: Path) -> list[dict[str, Any]]:
    """The database as `path`, and the assets of the very same moment. Raises ServerError."""
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot = cursor.fetchone()[0]
        cursor.execute(ASSETS)
        assets = [dict(zip(("key", "size", "sha256"), row, strict=True)) for row in cursor]
        _program("pg_dump", "-Fc", f"--snapshot={snapshot}", f"--file={path}", _address())
    return assets


def _address() -> str:
    """Of the database that Django uses."""
    from django.db import connection
    from psycopg.conninfo import make_conninfo

    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    known = {name: connection.settings_dict[key] for name, key in names.items()}
    given_ = {name: value for name, value in known.items() if value}
    return make_conninfo(**given_, dbname=connection.settings_dict["NAME"])


def _program(name: str, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 - of our own wheel
        [str(wheel() / "bin" / name), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServerError(f"{name}: {done.stderr.strip()[-2000:]}")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _add_assets(tar: tarfile.TarFile, keys: list[str]) -> int:
    """Files that lie here; those of a bucket stay in it. One that is removed meanwhile is left out."""
    from genpulse.config import config
    from media import storages

    if config.storage_type != "local":
        return 0
    count = 0
    for key in keys:
        try:
            with storages.read(key) as file:
                member = tarfile.TarInfo(f"assets/{key}")
                member.size, member.mode = os.fstat(file.fileno()).st_size, 0o600
                tar.addfile(member, file)
                count += 1
        except FileNotFoundError:
            continue
    return count


@commands.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `genpulse backup` wrote.")],
    data: Data = DEFAULT_DATA,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """A backup into a new folder and an empty database; ends with the audit."""
    instance = Instance(data)
    if instance.supervisor_pid() is not None:
        fail(
            f"an instance runs in {instance.home}; stop it with `genpulse down`, or name a new folder"
        )
    try:
        with tarfile.open(file) as tar, instance.one_at_a_time():
            _restore(instance, tar, yes=yes)
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        fail(f"{file} cannot be restored: {error}")
    except (ServerError, ConfigError) as error:
        fail(str(error))


def _restore(instance: Instance, tar: tarfile.TarFile, *, yes: bool) -> None:
    manifest = json.loads(_read(tar, "manifest.json"))
    if manifest["format"] != FORMAT:
        fail(f"format {manifest['format']} of this backup is unknown to this version")
    _put_secrets(instance, tar)
    with _database(instance):
        instance.generate_secrets()
        set_up_django()
        _fill(tar)
        count = _put_assets(tar, {asset["key"] for asset in manifest["assets"]}, yes=yes)
        instance.demo_mark.touch()
        err.print(f"restored into {instance.home}: database, {count} files of assets", markup=False)
        report(json=False)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    if member is None:
        raise KeyError(name)
    return member.read()


def _put_secrets(instance: Instance, tar: tarfile.TarFile) -> None:
    for name in SECRETS:
        path = instance.home / name
        if f"secrets/{name}" not in tar.getnames():
            continue
        secret = _read(tar, f"secrets/{name}")
        if path.exists() and path.read_bytes() != secret:
            fail(f"{instance.home} is in use: its {name} differs from that of the backup")
        path.touch(mode=0o600)
        path.write_bytes(secret)


@contextmanager
def _database(instance: Instance) -> Iterator[None]:
    """The one the environment names, else that of the folder, started for as long as needed."""
    if given(*DATABASE_NAMES) or in_production():
        yield
        return
    postgres = Postgres(instance.home / "postgres")
    server = postgres.start()
    os.environ["DATABASE_URL"] = postgres.url()
    try:
        yield
    finally:
        server.stop()


def _fill(tar: tarfile.TarFile) -> None:
    from django.db import connection

    from genpulse import schema

    if schema.names():
        fail("the database is not empty; restore wants a new folder or an empty database")
    source = tar.extractfile("database.dump")
    if source is None:
        raise ValueError("database.dump is no file")
    with tempfile.NamedTemporaryFile() as dump:
        shutil.copyfileobj(source, dump)
        dump.flush()
        once = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
        _program("pg_restore", *once, f"--dbname={_address()}", dump.name)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(REORDER)
    schema.migrate()


def _put_assets(tar: tarfile.TarFile, keys: set[str], *, yes: bool) -> int:
    from genpulse.config import config
    from media import storages

    members = [tar.getmember(name) for name in tar.getnames() if name.startswith("assets/")]
    place = Path(str(config.storage_local_path))
    if members and not yes and place.exists() and any(place.iterdir()):
        _ask(place)
    for member in members:
        key, source = member.name.removeprefix("assets/"), tar.extractfile(member)
        if key not in keys or source is None:
            raise ValueError(f"{member.name} is not in its manifest")
        storages.write(key, source, "")  # type: ignore[arg-type]  # a buffered reader of bytes
    return len(members)


def _ask(place: Path) -> None:
    if not sys.stdin.isatty():
        fail(f"{place} has files; say --yes to write among them", WRONG_USAGE)
    if not typer.confirm(f"{place} has files. Write among them?", err=True):
        fail("database restored, assets not")
