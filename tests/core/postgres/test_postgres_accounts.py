"""As whom the server runs when root starts it, and what becomes of permissions."""

import os
import pwd
import shutil
import stat
from pathlib import Path

import psutil
import pytest

from lantern.core.postgres import PostgresFailed, acquire, find_binaries
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


def test_root_under_another_number(data_dir, namespaces, query):
    with acquire(data_dir, fsync=False) as server:
        assert uid_of(server) == 0  # as seen from here
        assert query(server.dsn, "select 1") == 1
    assert {path.stat().st_uid for path in data_dir.rglob("*")} == {0}


def test_root_under_another_number_in_a_private_home(private, namespaces, query):
    with acquire(private / "data", fsync=False) as server:
        assert query(server.dsn, "select 1") == 1
    assert not (private / "data/postgres.home").exists()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_nobody_in_an_open_folder(data_dir, query):
    with acquire(data_dir, fsync=False, _namespaces=False) as server:
        assert uid_of(server) == NOBODY
        assert query(server.dsn, "select 1") == 1
    assert (data_dir / "postgres").stat().st_uid == NOBODY
    assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
    assert (data_dir / "postgres.password").stat().st_uid == 0
    with acquire(data_dir, fsync=False) as server:  # whoever has the files goes on
        assert uid_of(server) == NOBODY


def test_nobody_in_a_private_home_goes_elsewhere(private, query):
    data_dir = private / "data"
    try:
        with acquire(data_dir, fsync=False, _namespaces=False) as server:
            assert uid_of(server) == NOBODY
            home = Path((data_dir / "postgres.home").read_text().strip())
            assert home.parent == AWAY
            assert home.stat().st_uid == NOBODY
            assert stat.S_IMODE(home.stat().st_mode) == 0o700
            query(server.dsn, "create table kept as select 7 as x")
        assert not (data_dir / "postgres").exists()
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        with acquire(data_dir, fsync=False, _namespaces=False) as server:
            assert query(server.dsn, "select x from kept") == 7
        data_dir.rename(private / "moved")  # the pointer goes along
        data_dir = private / "moved"
        with acquire(data_dir, fsync=False) as server:
            assert query(server.dsn, "select x from kept") == 7
    finally:
        shutil.rmtree((data_dir / "postgres.home").read_text().strip())


def test_a_pointer_without_its_home_is_made_good(private, place, query):
    data_dir = private / "data"
    data_dir.mkdir()
    (data_dir / "postgres.home").write_text(f"{place / 'elsewhere'}\n")
    with acquire(data_dir, fsync=False, _namespaces=False) as server:
        assert query(server.dsn, "select 1") == 1
    assert (place / "elsewhere/data/PG_VERSION").exists()


def test_programs_in_a_private_home_are_copied(private, data_dir, query):
    original = find_binaries()
    for name in ("lib", "share", "bin"):
        shutil.copytree(original.parent / name, private / "pg" / name, symlinks=True)
    before = set((AWAY / "binaries").glob("*"))
    try:
        for _ in range(2):
            with acquire(
                data_dir, fsync=False, _namespaces=False, _binaries=private / "pg/bin"
            ) as server:
                program = Path(psutil.Process(server.pid).exe())
                assert program.is_relative_to(AWAY / "binaries")
                assert query(server.dsn, "select 'a' % 'a'" if False else "select 1") == 1
        made = set((AWAY / "binaries").glob("*")) - before
        assert len(made) == 1
        assert {path.stat().st_uid for path in made.pop().rglob("*")} == {0}
    finally:
        for path in set((AWAY / "binaries").glob("*")) - before:
            shutil.rmtree(path)


def test_the_owner_of_the_data_directory(data_dir, user, query):
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, NOBODY, NOBODY)
    with acquire(data_dir, fsync=False) as server:  # root helps out in somebody's directory
        assert uid_of(server) == NOBODY
        query(server.dsn, "create table kept as select 7 as x")
        one = user(data_dir, fsync=False, uid=NOBODY)
        assert one.first["pid"] == server.pid
    assert query(one.first["dsn"], "select x from kept") == 7
    one.ask("release")
    assert {path.stat().st_uid for path in data_dir.rglob("*")} == {NOBODY}


def test_somebody_who_is_not_root(data_dir, user, query):
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, NOBODY, NOBODY)
    one = user(data_dir, fsync=False, uid=NOBODY)
    assert query(one.first["dsn"], "select 1") == 1
    one.ask("release")


def test_namespaces_forbidden_later(data_dir, namespaces, query):
    with acquire(data_dir, fsync=False) as server:
        query(server.dsn, "create table kept as select 7 as x")
    with acquire(data_dir, fsync=False, _namespaces=False) as server:
        assert uid_of(server) == NOBODY
        assert query(server.dsn, "select x from kept") == 7


def test_namespaces_forbidden_later_in_a_private_home(private, namespaces):
    acquire(private / "data", fsync=False).release()
    with pytest.raises(PostgresFailed, match="cannot reach .*: move the data directory"):
        acquire(private / "data", fsync=False, _namespaces=False)
