#!/bin/sh
# See load_test.py; --help lists its options.
here=$(dirname "$0")
exec "$here/../.venv/bin/python" "$here/load_test.py" "$@"
