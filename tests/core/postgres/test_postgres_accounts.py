"""As whom the server runs when root starts it, and what becomes of permissions."""

import os
import pwd
import shutil
import stat
from pathlib import Path

import psutil
import pytest

from lantern.core.postgres import PostgresFailed, acquire, find_binaries, remove
from lantern.core.postgres_account import choose

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
AWAY = Path("/var/lib/lantern")
NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def namespaces():
    if not choose(0, new=True).prefix:
        pytest.skip("this kernel forbids user namespaces")


@pytest.fixture
def private(place):
    """A folder that only root may pass through, like a home directory."""
    folder = place / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(autouse=True)
def nothing_else_changes(place):
    """No users are added, no permissions of what was there are changed."""
    modes = {path: path.stat().st_mode for path in (place, *place.parents)}
    users = Path("/etc/passwd").read_bytes()
    yield
    assert {path: path.stat().st_mode for path in modes} == modes
    assert Path("/etc/passwd").read_bytes() == users


def uid_of(server):
    return psutil.Process(server.pid).uids().effective


def test_root_under_another_number(new_dir, namespaces, query):
    with acquire(new_dir, fsync=False) as server:
        assert uid_of(server) == 0  # as seen from here
        assert query(server.dsn, "select 1") == 1
    assert {path.lstat().st_uid for path in new_dir.rglob("*")} == {0}


def test_root_under_another_number_in_a_private_home(private, namespaces, query):
    with acquire(private / "data", fsync=False) as server:
        assert query(server.dsn, "select 1") == 1
    assert not (private / "data/postgres.home").exists()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_nobody_in_an_open_folder(new_dir, query):
    with acquire(new_dir, fsync=False, _namespaces=False) as server:
        assert uid_of(server) == NOBODY
        assert query(server.dsn, "select 1") == 1
    assert (new_dir / "postgres").stat().st_uid == NOBODY
    assert stat.S_IMODE((new_dir / "postgres").stat().st_mode) == 0o700
    assert (new_dir / "postgres.password").stat().st_uid == 0
    with acquire(new_dir, fsync=False) as server:  # whoever has the files goes on
        assert uid_of(server) == NOBODY


def test_nobody_in_a_private_home_goes_elsewhere(private, query):
    folder = private / "data"
    with acquire(folder, fsync=False, _namespaces=False) as server:
        assert uid_of(server) == NOBODY
        home = Path((folder / "postgres.home").read_text().strip())
        assert home.parent == AWAY
        assert home.stat().st_uid == NOBODY
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        query(server.dsn, "create table kept as select 7 as x")
    assert not (folder / "postgres").exists()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    with acquire(folder, fsync=False, _namespaces=False) as server:
        assert query(server.dsn, "select x from kept") == 7
    folder = folder.rename(private / "moved")  # the pointer goes along
    with acquire(folder, fsync=False) as server:
        assert query(server.dsn, "select x from kept") == 7
    remove(folder)
    assert not home.exists()


def test_a_pointer_without_its_home_is_made_good(private, place, query):
    folder = private / "data"
    folder.mkdir()
    (folder / "postgres.home").write_text(f"{place / 'elsewhere'}\n")
    with acquire(folder, fsync=False, _namespaces=False) as server:
        assert query(server.dsn, "select 1") == 1
    assert (place / "elsewhere/data/PG_VERSION").exists()


def test_programs_in_a_private_home_are_copied(private, new_dir, query):
    package = find_binaries().parents[1]
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, private / folder.name, symlinks=True)
    binaries = private / package.name / "pginstall/bin"
    before = set((AWAY / "binaries").glob("*"))
    try:
        for _ in range(2):
            with acquire(new_dir, fsync=False, _namespaces=False, _binaries=binaries) as server:
                program = Path(psutil.Process(server.pid).exe())
                assert program.is_relative_to(AWAY / "binaries")
                assert query(server.dsn, "select 1") == 1
        (copy,) = set((AWAY / "binaries").glob("*")) - before
        assert {path.stat().st_uid for path in copy.rglob("*")} == {0}
    finally:
        for path in set((AWAY / "binaries").glob("*")) - before:
            shutil.rmtree(path)


def test_the_owner_of_the_new_directory(new_dir, user, query):
    new_dir.mkdir(mode=0o700)
    os.chown(new_dir, NOBODY, NOBODY)
    with acquire(new_dir, fsync=False) as server:  # root helps out in somebody's directory
        assert uid_of(server) == NOBODY
        query(server.dsn, "create table kept as select 7 as x")
        one = user(new_dir, fsync=False, uid=NOBODY)
        assert one.first["pid"] == server.pid
    assert query(one.first["dsn"], "select x from kept") == 7
    one.ask("release")
    assert {path.lstat().st_uid for path in new_dir.rglob("*")} == {NOBODY}


def test_somebody_who_is_not_root(new_dir, user, query):
    new_dir.mkdir(mode=0o700)
    os.chown(new_dir, NOBODY, NOBODY)
    one = user(new_dir, fsync=False, uid=NOBODY)
    assert query(one.first["dsn"], "select 1") == 1
    one.ask("release")


def test_namespaces_forbidden_later(new_dir, namespaces, query):
    with acquire(new_dir, fsync=False) as server:
        query(server.dsn, "create table kept as select 7 as x")
    with acquire(new_dir, fsync=False, _namespaces=False) as server:
        assert uid_of(server) == NOBODY
        assert query(server.dsn, "select x from kept") == 7


def test_namespaces_forbidden_later_in_a_private_home(private, namespaces):
    acquire(private / "data", fsync=False).release()
    with pytest.raises(PostgresFailed, match=r"cannot reach .*: move the data directory"):
        acquire(private / "data", fsync=False, _namespaces=False)
