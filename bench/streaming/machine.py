"""The machine's side: cores, scheduling class, starting and stopping, CPU and memory of a tree.

The target and all it starts (its Postgres too) run on one core, the model and the client on
another, so the load side cannot slow a target down.
"""

import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import psutil

TARGET_CPU = os.environ.get("TARGET_CPU", "0")
LOAD_CPU = os.environ.get("LOAD_CPU", "1" if (os.cpu_count() or 1) > 1 else "0")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failed(Exception):
    """A target did not start or did not give what it should; the others go on."""


def realtime() -> str:
    """`chrt -r 1` where it works. Plain nice does nothing between sessions on many kernels."""
    probe = ["chrt", "-r", "1", "true"]
    works = shutil.which("chrt") and subprocess.run(probe, capture_output=True).returncode == 0
    return "chrt -r 1" if works else ""


SCHED = os.environ.get("BENCH_SCHED", realtime()).split()


def pinned(command: list, cpu: str) -> list[str]:
    """The command on one core, in the benchmark's scheduling class; its children inherit both."""
    pin = ["taskset", "-c", cpu] if shutil.which("taskset") else []
    return [*SCHED, *pin, *map(str, command)]


def environment(**extra) -> dict[str, str]:
    """Ours, without proxies: everything here talks to 127.0.0.1."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return {**kept, **{k: str(v) for k, v in extra.items()}}


def start(command: list, cpu: str, log: pathlib.Path, **options) -> subprocess.Popen:
    with log.open("ab") as out:
        return subprocess.Popen(
            pinned(command, cpu), stdout=out, stderr=out, stdin=subprocess.DEVNULL, **options
        )


def wait_http(url: str, process: subprocess.Popen, limit: float = 90) -> None:
    """Until the address answers 200. Looks every 10 ms, so start-up times are good to that."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Failed(f"ended with {process.returncode}; see its log")
        try:
            OPENER.open(url, timeout=2).read()
            return
        except OSError:  # refused, or not 200 yet
            time.sleep(0.01)
    raise Failed(f"not ready after {limit:.0f} s: {url}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tree(pids) -> dict[int, psutil.Process]:
    """These processes and all below them that still live."""
    found = {}
    for pid in pids:
        try:
            top = psutil.Process(pid)
            found.update({p.pid: p for p in (top, *top.children(recursive=True))})
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_seconds(pids) -> float:
    """User and system time of the tree, that of its ended and awaited children included."""
    total = 0.0
    for process in tree(pids).values():
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def memory(pids) -> dict[str, float]:
    """MB (10^6 bytes). PSS counts a page shared by n processes as 1/n of a page in each."""
    pss = rss = 0
    for process in tree(pids).values():
        try:
            info = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        pss, rss = pss + info.pss, rss + info.rss
    return {"pss_mb": round(pss / 1e6, 1), "rss_mb": round(rss / 1e6, 1)}


def busy_seconds() -> float:
    """CPU time of the whole machine that was not idle."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq + times.steal


def stop(process: subprocess.Popen | None, patience: float = 20) -> None:
    """SIGTERM, then SIGKILL; whatever it started and left behind is killed too."""
    if process is None or process.poll() is not None:
        return
    below = tree([process.pid])
    below.pop(process.pid, None)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in psutil.wait_procs(below.values(), timeout=3)[1]:
        child.kill()


def facts() -> str:
    """One line about where the figures were taken."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1] for line in lines if line.startswith("model name")]
    model = " ".join(names[0].split()) if names else platform.machine()
    scheduling = " ".join(SCHED) or "normal scheduling"
    return (
        f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, "
        f"Python {platform.python_version()}, {scheduling}"
    )
