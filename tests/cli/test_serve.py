"""`lantern serve` as a process: its start, commands beside it, its end."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from servers import wait_until

from cli.conftest import BUILTIN, Commands, Done, environment, lantern

pytestmark = pytest.mark.xdist_group("serve")

SLOW = BUILTIN + "pace_ms = 200\n"


class Serving:
    """A server on a data directory; its first line says where it is."""

    def __init__(self, data: Path, config: Path, *options: str, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "lantern.cli", "serve", "--port", str(port),
                "--data-dir", data, "--config", config, *options,
            ],
            env=environment(), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout
        self.line = self.process.stdout.readline()
        self.url = self.line.split()[2] if self.line.startswith("Lantern serves ") else ""

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            assert self.process.stdout
            self.process.stdout.close()


@dataclass(frozen=True)
class Place:
    """A data directory, a server on it, commands on it."""

    data: Path
    config: Path
    server: Serving
    commands: Commands

    def key(self, *options: str) -> Done:
        return self.commands("keys", "create", "--name", "k", *options)

    def client(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.server.url, headers={"Authorization": f"Bearer {key}"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("serve")
    config = folder / "lantern.toml"
    config.write_text(SLOW)
    fixed = ("--data-dir", str(folder / "data"), "--config", str(config))
    server = Serving(folder / "data", config)
    try:
        with Commands(*fixed, env=environment()) as commands:
            yield Place(folder / "data", config, server, commands)
    finally:
        server.stop()


def postgres_of(data: Path) -> list[int]:
    """Postmasters at work on a data directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "-D" in words and str(data.resolve()) in words[words.index("-D") + 1]:
            found.append(process.pid)
    return found


def test_keys_are_made_and_revoked_beside_a_running_server(place):
    made = json.loads(place.key("--json").out)
    with place.client(made["key"]) as client:
        assert client.get("/v1/agents").status_code == 200
        assert place.commands("keys", "revoke", made["id"]).code == 0
        assert client.get("/v1/agents").status_code == 401


def test_a_run_goes_to_the_server_and_is_followed_from_here(place):
    place.commands("agents", "create", "--name", "remote")
    shown = place.commands("run", "remote", "--input", '{"q": "hi"}', "--events")
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "run.complete"
    server = f"server on {socket.gethostname()} (pid {place.server.process.pid})"
    report = place.commands("doctor", "--json").json
    (nodes,) = (c["detail"] for c in report["checks"] if c["name"] == "nodes")
    assert nodes == server, "the command was no node"


def test_ctrl_c_cancels_the_run(place):
    place.commands("agents", "create", "--name", "long")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "lantern.cli", "run", "long", "--input", '{"q": "hi"}',
            "--data-dir", place.data, "--config", place.config,
        ],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == "[write]\n"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.wait(20) == 130
    assert "[cancelled]" in rest
    (run,) = place.commands("runs", "list", "--agent", "long", "--json").json["runs"]
    assert run["status"] == "cancelled"


def test_a_taken_port_is_said_in_one_line_and_at_once(place, tmp_path):
    port = place.server.url.rpartition(":")[2]
    done = lantern("serve", "--port", port, "--data-dir", tmp_path / "unused")
    assert done.code == 1
    assert done.error == f"127.0.0.1:{port} is in use: choose another --port"
    assert not (tmp_path / "unused").exists(), "nothing was started for it"


def test_doctor_knows_who_has_the_port(place):
    port = place.server.url.rpartition(":")[2]
    config = place.config.with_name("port.toml")
    config.write_text(f"{SLOW}[server]\nport = {port}\n")
    data = ("--data-dir", place.data)
    ours = place.commands("doctor", *data, "--config", config, "--json").json
    assert [c["status"] for c in ours["checks"] if c["name"] == "port"] == ["ok"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config.write_text(f"{SLOW}[server]\nport = {other.getsockname()[1]}\n")
        sick = place.commands("doctor", *data, "--config", config)
    assert sick.code == 1
    assert "is in use" in sick.out


@pytest.mark.slow
def test_the_end_waits_for_readers_and_leaves_nothing(tmp_path):
    config = tmp_path / "lantern.toml"
    config.write_text(SLOW)
    data = tmp_path / "data"
    server = Serving(data, config)
    key = lantern("keys", "create", "--name", "k", "--data-dir", data).out.strip()
    headers = {"Authorization": f"Bearer {key}"}
    assert postgres_of(data)
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        client.post("/v1/agents", json={"name": "a"}).raise_for_status()
        run = client.post("/v1/agents/a/runs", json={"input": {"q": "hi"}}).json()["run_id"]
        with client.stream("GET", f"/v1/runs/{run}/stream") as stream:
            lines = stream.iter_lines()
            assert "step.start" in next(line for line in lines if line.startswith("data"))
            server.process.send_signal(signal.SIGTERM)
            assert "run.complete" in [line for line in lines if line.startswith("data")][-1]
    assert server.stop() == 0
    wait_until(lambda: not postgres_of(data))


@pytest.mark.slow
def test_a_server_killed_while_it_starts_leaves_postgres_to_nobody(tmp_path, builtin):
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-m", "lantern.cli", "serve", "--port", "0", "--data-dir", data],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: postgres_of(data), 30)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode in (0, 143)
    assert b"Traceback" not in err
    wait_until(lambda: not postgres_of(data))


@pytest.mark.slow
def test_several_processes_on_one_port_are_replaced_when_they_die(tmp_path, builtin):
    server = Serving(tmp_path / "data", builtin, "--workers", "2")
    try:
        parent = psutil.Process(server.process.pid)

        def workers() -> set[int]:
            live = [p for p in parent.children() if p.status() != psutil.STATUS_ZOMBIE]
            return {p.pid for p in live if "spawn_main" in " ".join(p.cmdline())}

        wait_until(lambda: len(nodes(server.url)) == 2, 30)
        before = workers()
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(workers() - before) == 1, 20)
        wait_until(lambda: len(nodes(server.url)) == 2, 30)
    finally:
        assert server.stop() == 0
    assert not postgres_of(tmp_path / "data")


def nodes(url: str) -> set[str]:
    """Who answers on a port."""
    return {httpx.get(f"{url}/healthz").json()["node"] for _ in range(30)}


def test_the_printed_link_signs_one_browser_in_once(tmp_path, builtin):
    server = Serving(tmp_path / "data", builtin)
    try:
        line = server.process.stdout.readline()
        address, _, secret = line.split()[-1].partition("#")
        assert address == f"{server.url}/dashboard/sign-in"
        for status in (303, 401):
            with httpx.Client(base_url=server.url) as browser:
                answer = browser.post("/dashboard/enter", data={"link": secret})
                assert answer.status_code == status
                seen = browser.get("/dashboard/tenants").status_code
                assert seen == (200 if status == 303 else 303)
    finally:
        server.stop()


def test_a_link_is_made_beside_a_running_server(place):
    for options, may in (((), 200), (("--tenant", "1"), 403)):
        made = place.commands("dashboard", "link", "--url", place.server.url, *options)
        secret = made.out.strip().partition("#")[2]
        assert made.out.startswith(f"{place.server.url}/dashboard/sign-in#lnk_")
        with httpx.Client(base_url=place.server.url) as browser:
            entered = browser.post("/dashboard/enter", data={"link": secret})
            assert entered.headers["location"] == "/dashboard"
            assert browser.get("/dashboard/tenants").status_code == may
    told = place.commands("dashboard", "link", "--json", "--tenant", "1")
    assert json.loads(told.out)["expires_in_minutes"] == 60
    assert place.commands("dashboard", "link", "--tenant", "99").code == 1
