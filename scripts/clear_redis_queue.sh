#!/bin/sh
# See clear_redis_queue.py; --help lists its options.
here=$(dirname "$0")
exec "$here/../.venv/bin/python" "$here/clear_redis_queue.py" "$@"
