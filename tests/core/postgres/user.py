"""A process that uses a data directory. Arguments: the directory, options as JSON.

It acquires the server, prints its DSN and process id as a line of JSON, then obeys a word a line.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from lantern.core import postgres


def say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    options = json.loads(sys.argv[2])
    uid = options.pop("uid", None)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    try:
        server = postgres.acquire(Path(sys.argv[1]), **options)
    except postgres.PostgresFailed as error:
        say(error=error.message)
        return
    say(dsn=server.dsn, pid=server.pid)
    for word in sys.stdin:
        if word.strip() == "ensure":
            say(restarted=server.ensure(), pid=server.pid)
        else:
            server.release()
            say(released=True)
            return


main()
