"""A guard for tests: stops the server of a data directory when its parent process dies.

Run as a program with the data directory as argument. Its standard input is a pipe from the parent;
a byte on it means a parent that leaves in good order, its end without a byte one that was killed.
The kernel's own parent-death signal would not do: it follows the thread that forked.
"""

import fcntl
import os
import sys
import time
from pathlib import Path

from lantern.core.postgres_cluster import Cluster
from lantern.core.postgres_files import Files, open_lock, take


def main() -> None:
    """Wait for the parent's end, then for the last user's, then stop what still runs."""
    files = Files(Path(sys.argv[1]))
    if sys.stdin.buffer.read(1):
        return
    users = open_lock(files.users)
    try:
        # Asked for now and then: a waiting lock would take the last user's turn to stop the server.
        while not take(users, fcntl.LOCK_EX):
            time.sleep(0.2)
        if files.alive.exists():
            Cluster(files).stop()
    finally:
        os.close(users)


if __name__ == "__main__":
    main()
