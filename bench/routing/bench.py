"""The routing benchmark: one server process, its Postgres, a client on the other core."""

import argparse
import asyncio
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "streaming"))

import machine  # noqa: E402
import psutil  # noqa: E402

from lantern import keys  # noqa: E402
from lantern.core import postgres  # noqa: E402
from lantern.core.db import Database  # noqa: E402

WANTED = {
    "16 pools, 4 tenants": ">= 500/s",
    "one hot pool": ">= 300/s",
    "paced 200/s": "p99 <= 60 ms",
}
MEMBERS = 17


async def furnish(dsn: str, port: int) -> dict:
    """4 tenants with 4 keys and 4 pools each, one with 16 pools, one with a hot pool."""
    db = Database(dsn)
    await db.open()
    cells = {}
    for name, tenants, pools in (
        ("16 pools, 4 tenants", 4, 4),
        ("16 pools, one tenant", 1, 16),
        ("one hot pool", 1, 1),
    ):
        cells[name] = []
        for _ in range(tenants):
            row = await db.one("select create_tenant('bench', 'team', 100000000) as id")
            own = []
            for _ in range(16 // tenants):
                given = keys.OperatorKey(
                    name="bench",
                    scopes=["admin"],
                    agents=["*"],
                    limits={"plan": 0, "routing": 1_000_000},
                )
                async with db.transaction(row["id"]) as tx:
                    own.append(str((await keys.create_as_operator(tx, row["id"], given))["key"]))
            for number in range(pools):
                post(
                    port,
                    own[0],
                    {
                        "pool": f"pool-{number}",
                        "members": [{"user_id": f"0055g00000Ax{i:06d}"} for i in range(MEMBERS)],
                    },
                )
            cells[name].append([[key, f"pool-{n % pools}"] for n, key in enumerate(own)])
        # Tenants take turns, so that neighbouring connections share neither pool nor tenant.
        cells[name] = [pair for some in zip(*cells[name], strict=True) for pair in some]
        if pools > 4:
            cells[name] = [[key, f"pool-{n}"] for n, (key, _) in enumerate(cells[name])]
    await db.close()
    return cells


def post(port: int, key: str, body: dict) -> None:
    import urllib.request

    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/routing/pools", json.dumps(body).encode(), headers
    )
    machine.OPENER.open(request, timeout=20).read()


class Server:
    """The server, its Postgres, and what they have used."""

    def __init__(self, folder: pathlib.Path, args) -> None:
        self.port = machine.free_port()
        self.folder = folder
        command = [HERE.parents[1] / ".venv/bin/python", "-m", "lantern.cli", "serve"]
        command += ["--port", self.port, "--data-dir", folder / "data"]
        env = machine.environment()
        self.process = machine.start(
            command, machine.TARGET_CPU, folder / "server.log", env=env, cwd=folder
        )
        machine.wait_http(f"http://127.0.0.1:{self.port}/healthz", self.process)
        if not args.together:  # Postgres may use both cores, as it would beside any server
            for process in psutil.process_iter(["name", "ppid", "pid"]):
                if process.info["name"] == "postgres" and self.ours(process):
                    process.cpu_affinity([])

    def cpu(self) -> tuple[float, float]:
        """Seconds of the server, seconds of Postgres and its children."""
        server = postgres_cpu = 0.0
        for process in psutil.process_iter(["name", "cmdline", "cpu_times", "ppid", "pid"]):
            times = process.info["cpu_times"]
            if times is None:
                continue
            if process.info["pid"] == self.process.pid:
                server += times.user + times.system
            elif process.info["name"] == "postgres" and self.ours(process):
                postgres_cpu += times.user + times.system
                if process.info["pid"] == self.postmaster:
                    postgres_cpu += times.children_user + times.children_system
        return server, postgres_cpu

    @property
    def postmaster(self) -> int:
        return int(next(self.folder.glob("data/**/postmaster.pid")).read_text().split()[0])

    def ours(self, process) -> bool:
        return self.postmaster in (process.info["pid"], process.info["ppid"])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def load(server: Server, job: dict, script: str = "client.py") -> dict:
    """One cell; its figures with the CPU of the server's side."""
    command = machine.pinned([sys.executable, HERE / script], machine.LOAD_CPU)
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    running.stdin.write(json.dumps(job))
    running.stdin.close()
    if script == "client.py":
        assert running.stdout.readline() == "go\n"
    busy, before = psutil.cpu_times(), server.cpu()
    lines = running.stdout.read()
    after = server.cpu()
    assert running.wait() == 0
    told = json.loads(lines)
    told["others"] = others(busy, psutil.cpu_times())
    if "count" in told:
        told["server_ms"], told["postgres_ms"] = (
            1000 * (b - a) / told["count"] for a, b in zip(before, after, strict=True)
        )
    return told


def others(before, after) -> float:
    """How much of the machine's cores was in use, all processes together."""
    idle = after.idle - before.idle + getattr(after, "iowait", 0) - getattr(before, "iowait", 0)
    return 1 - idle / (sum(after) - sum(before))


def measure(server: Server, cells: dict, dsn: str, args) -> list[str]:
    seconds, rows = args.seconds, []
    kept = {"port": server.port, "warmup": 2, "seconds": seconds}
    floors = {
        n: load(server, {"dsn": dsn, "clients": n, "seconds": seconds}, "floor.py")["rate"]
        for n in (1, 8)
    }
    for name, connections in (
        ("16 pools, 4 tenants", 16),
        ("16 pools, one tenant", 16),
        ("one hot pool", 16),
        ("one hot pool", 1),
        ("paced 200/s", 32),
    ):
        paced = name.startswith("paced")
        if args.only not in name:
            continue
        job = {
            **kept,
            "connections": connections,
            "callers": cells["16 pools, 4 tenants" if paced else name],
        }
        told = load(server, job | ({"rate": 200} if paced else {}))
        wanted = WANTED.get(name, "") if connections > 1 else ""
        rows.append(
            f"| {name} | {connections} | {told['rate']:.0f} | {told['rate'] / floors[8]:.2f} | {told['p50']:.1f} |"
            f" {told['p99']:.1f} | {told['server_ms']:.2f} | {told['postgres_ms']:.2f} | {told['load']:.2f} |"
            f" {told['others']:.2f} | {told['errors']} | {wanted} |"
        )
        print(rows[-1], told["example"], flush=True)
    floor = f"Floor, five statements from Python: {floors[1]:.0f}/s with 1 client, {floors[8]:.0f}/s with 8 on one pool."
    print(floor)
    return [*rows, "", floor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each cell")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results/latest.md")
    parser.add_argument("--together", action="store_true", help="Postgres on the server's core too")
    parser.add_argument("--only", default="", help="cells whose name has this in it")
    parser.add_argument("--functions", action="store_true", help="time spent in each SQL function")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-routing-"))
    server = Server(folder, args)
    try:
        with postgres.acquire(folder / "data") as shared:
            cells = asyncio.run(furnish(shared.dsn, server.port))
            if args.functions:
                sql(
                    shared.dsn,
                    "alter system set track_functions = 'all'",
                    "select pg_reload_conf()",
                )
            version, fsync, commit = sql(
                shared.dsn,
                "select version(), current_setting('fsync'), current_setting('synchronous_commit')",
            )[0]
            rows = measure(server, cells, shared.dsn, args)
            if args.functions:
                for row in sql(
                    shared.dsn,
                    "select funcname, calls, total_time / calls, self_time / calls"
                    " from pg_stat_user_functions order by total_time desc limit 15",
                ):
                    print("{:24} {:8} total {:.3f} self {:.3f} ms".format(*row))
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(report(rows, version, fsync, commit)) + "\n")


def report(rows, version, fsync, commit) -> list[str]:
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return [
        "# Routing: last measured",
        "",
        f"{day}, {os.cpu_count()} cores, {platform.machine()}, {version.split(' on ')[0]}, fsync {fsync},"
        f" synchronous_commit {commit}. Scheduling: `{' '.join(machine.SCHED) or 'plain'}`. README.md says what the columns mean.",
        "",
        "| load | connections | assignments/s | of the floor (8) | p50 ms | p99 ms | server CPU ms | Postgres CPU ms | load side | machine busy | errors | wanted |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def sql(dsn: str, *statements: str) -> list:
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall()


if __name__ == "__main__":
    main()
