"""A Postgres for a peer: the same binaries, settings and launcher as the product's own.

Prints {"dsn", "pid"} and stays until its standard input is closed.
"""

import contextlib
import json
import pathlib
import sys

from lantern.core import postgres

with contextlib.redirect_stdout(sys.stderr):  # one line goes to standard output, logs do not
    server = postgres.acquire(pathlib.Path(sys.argv[1]))
try:
    print(json.dumps({"dsn": server.dsn, "pid": server.pid}), flush=True)
    sys.stdin.read()
finally:
    server.release()
