"""The demonstration a newcomer sees: it kills a server, ends by itself, leaves nothing."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
import pytest
from servers import free_port, wait_until

from cli.conftest import environment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


def demo(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lantern.cli", "demo", "--port", str(free_port()), *options],
        env=environment(TMPDIR=str(folder)), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="l") as name:  # short: sockets have short paths
        yield Path(name)


def test_it_shows_a_run_that_survives_a_kill(folder):
    began = time.monotonic()
    shown = demo(folder)
    assert time.monotonic() - began < 60
    first, second = shown.split("\n2. process ")
    assert "Halvorsen Tide Systems builds turbines" in " ".join(first.split())
    assert len(re.findall(r"run_\w+: completed", shown)) == 2
    assert second.count("[plan]") == 1
    assert second.count("[write, attempt 2 on another node]") == 1
    assert "it ran once" in second
    turns = second.split("\n3. 8 new leads")[1]
    assert re.findall(r"-> +(\w+)", turns) == [
        "ann",
        "ben",
        "dan",
        "ann",
        "ann",
        "ben",
        "dan",
        "ann",
    ]
    assert "why      Number 5 of pool 'inbound': ann had the shortest wait of 3" in turns
    assert "8 rows, each chained to the one before: intact" in turns
    assert "4. where to look next" in turns
    assert not list(folder.iterdir()), "the temporary directory is gone"


def test_keep_leaves_the_server_up(folder):
    shown = demo(folder, "--keep")
    found = {
        name: re.search(pattern, shown)[1]
        for name, pattern in (
            ("url", r"LANTERN_URL=(\S+)"), ("key", r"LANTERN_KEY=(\S+)"), ("pid", r"kill (\d+)\n"),
        )
    }  # fmt: skip
    pid = int(found["pid"])
    try:
        headers = {"Authorization": f"Bearer {found['key']}"}
        runs = httpx.get(f"{found['url']}/v1/agents/research-agent/runs", headers=headers).json()
        assert [run["status"] for run in runs["runs"]] == ["completed", "completed"]
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not psutil.pid_exists(pid) or zombie(pid), 30)


def zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
