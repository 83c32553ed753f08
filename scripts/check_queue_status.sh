#!/bin/sh
# See check_queue_status.py; --help lists its options.
here=$(dirname "$0")
exec "$here/../.venv/bin/python" "$here/check_queue_status.py" "$@"
