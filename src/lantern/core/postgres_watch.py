"""A guard for tests: stops the server of a data directory when its parent process dies.

Run as a program with the data directory as argument. Its standard input is a pipe from the parent;
a byte on it means a parent that leaves in good order, its end without a byte one that was killed.
The kernel's own parent-death signal would not do: it follows the thread that forked.
"""

import fcntl
import sys
from pathlib import Path

from lantern.core.postgres_cluster import Cluster
from lantern.core.postgres_files import Files, open_lock


def main() -> None:
    """Wait for the parent's end, then for the last user's, then stop what still runs."""
    files = Files(Path(sys.argv[1]))
    if sys.stdin.buffer.read(1):
        return
    users = open_lock(files.users)
    fcntl.flock(users, fcntl.LOCK_EX)
    Cluster(files).stop()


if __name__ == "__main__":
    main()
