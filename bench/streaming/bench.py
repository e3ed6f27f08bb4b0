"""Starts the targets one after the other, drives the scenarios, prints one Markdown table."""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import hotspots
import machine
import peers
import table
from targets import DEFAULT, TARGETS, Target

HERE = pathlib.Path(__file__).resolve().parent
TMP = HERE / "results" / "tmp"
LOCK = pathlib.Path(
    os.environ.get("BENCH_LOCK", pathlib.Path(tempfile.gettempdir()) / "lantern-bench.lock")
)
READY_STARTS = 3

# What the client does; 50 tokens everywhere. Paced: the first token after 20 ms, one every 5 ms.
PACED = ["--first-ms", "20", "--inter-ms", "5"]
STREAMS = {
    "paced-1": ["-c", "1", *PACED],
    "paced-16": ["-c", "16", *PACED],
    "zero-1": ["-c", "1"],
    "zero-16": ["-c", "16"],
    "zero-64": ["-c", "64"],
    "zero-256": ["-c", "256"],
}
SCENARIOS = ["ready", "idle", *STREAMS, "idle-256"]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--targets",
        default=",".join(DEFAULT),
        help=f"of {', '.join(TARGETS)}; default: %(default)s",
    )
    parser.add_argument(
        "--scenarios", default=",".join(SCENARIOS), help="default: all, %(default)s"
    )
    parser.add_argument("--passes", type=int, default=1, help="medians are taken over the passes")
    parser.add_argument("--seconds", type=float, default=4, help="of one streaming scenario")
    parser.add_argument("--quick", action="store_true", help="1 s cells; for development only")
    parser.add_argument(
        "--profile", action="store_true", help="hot spots of each scenario (py-spy)"
    )
    parser.add_argument("--out", type=pathlib.Path, help="default: results/latest.md")
    chosen = parser.parse_args()
    chosen.targets, chosen.scenarios = chosen.targets.split(","), chosen.scenarios.split(",")
    if unknown := {*chosen.targets} - {*TARGETS} | {*chosen.scenarios} - {*SCENARIOS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    # settle, seconds: idle server; seconds: idle streams
    chosen.idle, chosen.idle_streams = ((10, 20), 10)
    if chosen.quick:
        chosen.seconds, chosen.idle, chosen.idle_streams = 1, (2, 3), 3
    if chosen.out is None:
        chosen.out = TMP / "quick.md" if chosen.quick else HERE / "results" / "latest.md"
    return chosen


@contextlib.contextmanager
def fake_model(log: pathlib.Path):
    """(base address, process) of a fresh fake."""
    port = machine.free_port()
    process = machine.start(
        [sys.executable, HERE / "fakellm.py", "--port", port], machine.LOAD_CPU, log
    )
    try:
        machine.wait_http(f"http://127.0.0.1:{port}/ctl", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        machine.stop(process)


class Pass:
    """One target, once through all scenarios."""

    def __init__(self, chosen, target: Target, fake_pid: int):
        self.chosen, self.target, self.fake_pid = chosen, target, fake_pid
        self.result: dict = {"target": target.name, "scenarios": {}}

    def run(self) -> dict:
        self.target.prepare()
        self.target.start()
        for scenario in self.chosen.scenarios:
            if scenario in STREAMS or self.target.server:
                result = self.one(scenario)
                self.result["scenarios"][scenario] = result
                print(f"  {scenario}: {brief(result)}", flush=True)
            if self.target.process and self.target.process.poll() is not None:
                print(f"  {self.target.name} died: {self.target.process.returncode}")
                break
        return self.result

    def one(self, scenario: str) -> dict:
        if scenario == "ready":
            return self.ready()
        if scenario == "idle":
            settle, seconds = self.chosen.idle
            return self.load("idle.py", ["-c", "0", "--settle", settle, "--seconds", seconds])
        if scenario == "idle-256":
            return self.load("idle.py", ["-c", "256", "--seconds", self.chosen.idle_streams])
        # One paced stream is a run each 0.3 s: twice the time, or percentiles say little.
        seconds = self.chosen.seconds * (2 if scenario == "paced-1" else 1)
        arguments = [*STREAMS[scenario], "--seconds", seconds]
        if self.target.process:
            arguments += ["--load-pids", self.fake_pid]
        with self.profiled(scenario):
            return self.load("client.py", arguments)

    def ready(self) -> dict:
        """Starts on data that is there; the last one is the server the scenarios use."""
        took = []
        for _ in range(READY_STARTS):
            self.target.stop()
            took.append(round(self.target.start(), 3))
        return {"seconds": statistics.median(took), "all": took}

    def load(self, script: str, arguments: list) -> dict:
        target = self.target
        pids = target.pids() or [self.fake_pid]
        command = [
            *(sys.executable, HERE / script, "--base", target.base, "--fake", target.fake),
            *("--adapter", target.adapter, "--adapter-args", json.dumps(target.adapter_args)),
            *("--pids", *pids, "--db-pids", *target.database(), *arguments),
        ]
        done = subprocess.run(
            machine.pinned(command, machine.LOAD_CPU),
            capture_output=True,
            text=True,
            env=machine.environment(),
            timeout=300,
        )
        if done.returncode:
            return {"failed": (done.stdout + done.stderr)[-800:], "errors": 1}
        memory = machine.memory(target.pids()) if target.process else {}
        return {**json.loads(done.stdout.splitlines()[-1]), "memory_after": memory}

    @contextlib.contextmanager
    def profiled(self, scenario: str):
        if not self.chosen.profile or not self.target.process:
            yield
            return
        with hotspots.watch(self.target.process.pid, TMP / f"{self.target.name}-{scenario}.folded"):
            yield


def brief(result: dict) -> str:
    """One line while it runs."""
    keys = ("seconds", "runs", "runs_per_s", "cpu_ms_per_run", "streams", "cpu_percent", "pss_mb")
    said = [f"{k} {result[k]}" for k in (*keys, "foreign_cores", "failed") if k in result]
    if "ttft_added_ms" in result:
        said.append(f"ttft+ {result['ttft_added_ms']['p50']}")
    if result.get("errors"):
        said.append(f"ERRORS {result['errors']} {result.get('error_samples', '')}")
    return ", ".join(said)


def measure(chosen, name: str, number: int) -> dict:
    """One pass over one target, alone on this machine as far as other benchmarks go."""
    log = TMP / f"{name}-{number}.log"
    work = pathlib.Path(tempfile.mkdtemp(prefix="lantern-bench-"))
    work.chmod(0o711)  # as root, a Postgres under another uid has to pass through
    with LOCK.open("w") as lock, fake_model(log) as (fake, process):
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(f"{name}, pass {number}, {time.strftime('%T')}", flush=True)
        target = TARGETS[name](name, work, fake, log)
        try:
            result = Pass(chosen, target, process.pid).run()
        except machine.Failed as error:
            print(f"  {name} failed: {error}", flush=True)
            result = {"target": name, "scenarios": {}, "failed": str(error)}
        finally:
            target.close()
            shutil.rmtree(work, ignore_errors=True)
    (TMP / f"{name}-{number}.json").write_text(json.dumps(result, indent=1))
    return result


def main() -> None:
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all that runs is stopped
    for peer in {TARGETS[name].peer for name in chosen.targets} - {None}:
        peers.ensure(peer)  # before any lock is held
    shutil.rmtree(TMP, ignore_errors=True)
    TMP.mkdir(parents=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(machine.LOAD_CPU)})
    results = [
        measure(chosen, name, number)
        for number in range(1, chosen.passes + 1)
        for name in chosen.targets
    ]
    kind = "quick run, not a measurement" if chosen.quick else f"{chosen.seconds:g} s a cell"
    text = table.render(results, f"{machine.facts()}, {chosen.passes} pass(es), {kind}")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(text)
    print("\n" + text)
    if any("failed" in result for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
