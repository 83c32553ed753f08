"""What other rooms may ask of media; the modules behind it are its own business.

Slow work (`prepare`, `adopt_data_uris`, `write_raw`, `load_input`, `fetch`) needs no transaction and no
database. Rows (`insert_many`, `purge`) belong to the caller's transaction.
"""

from media.assets import About, Data, discard, insert, insert_many, prepare, store
from media.fetch import Fetched, FetchError, Posted, check_url, fetch, guarded_post
from media.guard import Purpose
from media.inputs import InputFile, adopt_data_uris, input_files, load_input, resolve_inputs
from media.models import Asset
from media.raw import delete_raw, open_raw, write_raw
from media.refs import Reference, persistable, reference, sign, sign_key, with_url
from media.removal import erase, purge, sweep
from media.serving import Shown, original, serve, small
from media.signing import SignedUrl
from media.storages import StorageUnavailable
from media.thumbnails import add_thumbnail, make_missing_thumbnails

Prepared = Asset  # what `prepare` returns: an Asset without a row yet

__all__ = [
    "About",
    "Asset",
    "Data",
    "FetchError",
    "Fetched",
    "InputFile",
    "Posted",
    "Prepared",
    "Purpose",
    "Reference",
    "Shown",
    "SignedUrl",
    "StorageUnavailable",
    "add_thumbnail",
    "adopt_data_uris",
    "check_url",
    "delete_raw",
    "discard",
    "erase",
    "fetch",
    "guarded_post",
    "input_files",
    "insert",
    "insert_many",
    "load_input",
    "make_missing_thumbnails",
    "open_raw",
    "original",
    "persistable",
    "prepare",
    "purge",
    "reference",
    "resolve_inputs",
    "serve",
    "sign",
    "sign_key",
    "small",
    "store",
    "sweep",
    "with_url",
    "write_raw",
]
