#!/bin/sh
# See test_volcengine_full.py; --help lists its options.
here=$(dirname "$0")
exec "$here/../.venv/bin/python" "$here/test_volcengine_full.py" "$@"
