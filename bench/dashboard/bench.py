"""How long the server takes for each page of the dashboard, over a tenant with much of everything."""

import argparse
import asyncio
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "streaming"))

import httpx  # noqa: E402
import machine  # noqa: E402
import seed  # noqa: E402

from lantern import keys  # noqa: E402
from lantern.core import postgres  # noqa: E402
from lantern.core.db import Database  # noqa: E402

WANTED_MS = 100
# What a person opens, and the filters that find little in much.
PAGES = {
    "Overview": "",
    "Agents": "/agents",
    "Agent": "/agents/agent-7",
    "Runs": "/runs",
    "Runs, far down": "/runs?after={far}",
    "Runs, failed": "/runs?status=failed",
    "Runs, running (none)": "/runs?status=running",
    "Runs of an agent": "/runs?agent=agent-7&status=failed",
    "Run": "/runs/run_seed00000050",
    "Routing": "/routing",
    "Pool": "/routing/pools/pool-3",
    "Assignments": "/routing/assignments",
    "Assignments, one record": "/routing/assignments?record=00Q5g0000000000777",
    "Assignments, one owner": "/routing/assignments?owner=user-60",
    "Assignments, void (none)": "/routing/assignments?status=void",
    "Assignment": "/routing/assignments/asg_seed00000777",
    "Logs": "/logs",
    "Logs, 30 days": "/logs?from={month}",
    "Logs, one pool": "/logs?pool=pool-3",
    "Logs, nothing found": "/logs?pool=no-such-pool&from={month}",
    "Logs, one record": "/logs?object_id=00Q5g0000000000777&from={month}",
    "Credits": "/credits",
    "Receipts": "/credits/receipts",
    "Receipts, one operation": "/credits/receipts?operation=merge",
    "Tariff": "/credits/tariff",
    "API keys": "/settings/keys",
    "Models": "/settings/models",
    "Health": "/health",
    "Palette": "/find?q=agent",
}


async def furnish(dsn: str) -> tuple[int, str]:
    """A tenant with an admin key."""
    db = Database(dsn)
    await db.open()
    row = await db.one("select create_tenant('bench', 'team', 100000000) as id")
    given = keys.OperatorKey("bench", ["admin"], ["*"], limits={"dashboard": 1_000_000})
    async with db.transaction(row["id"]) as tx:
        made = await keys.create_as_operator(tx, row["id"], given)
    await db.close()
    return row["id"], str(made["key"])


def measure(url: str, key: str, times: int) -> list[tuple[str, float, float, int, int]]:
    """Of each page: median and worst milliseconds, status, compressed bytes."""
    rows = []
    with httpx.Client(base_url=url, timeout=60) as client:
        client.post("/dashboard/sign-in", data={"key": key})
        month = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 30 * 86_400))
        far = f"{int((time.time() - 20 * 86_400) * 1e6)}.run_seed00060000"
        for name, path in PAGES.items():
            took = []
            where = "/dashboard" + path.format(month=month, far=far)
            answer = client.get(where)  # connections, plans, templates: once
            for _ in range(times):
                began = time.perf_counter()
                answer = client.get(where)
                took.append((time.perf_counter() - began) * 1000)
            size = int(answer.headers.get("content-length", 0))
            rows.append((name, statistics.median(took), max(took), answer.status_code, size))
    return rows


def first_load(url: str, key: str) -> int:
    """Compressed bytes of the first page with all that it asks for."""
    with httpx.Client(base_url=url) as client:
        client.post("/dashboard/sign-in", data={"key": key})
        page = client.get("/dashboard")
        total = int(page.headers["content-length"])
        for path in set(re.findall(r'(?:href|src)="(/dashboard/static/[^"#]+)', page.text)):
            total += int(client.get(path).headers["content-length"])
        return total


def table(rows: list, size: int, facts: str) -> str:
    """The result as Markdown."""
    lines = [
        f"Measured on {facts}.",
        "",
        f"First load with everything: {size / 1000:.0f} KB compressed (wanted <= 150 KB).",
        "",
        "| page | median ms | worst ms | status | KB |",
        "|---|---|---|---|---|",
    ]
    for name, median, worst, status, bytes_ in rows:
        mark = " (!)" if median > WANTED_MS or status != 200 else ""
        lines.append(
            f"| {name}{mark} | {median:.1f} | {worst:.1f} | {status} | {bytes_ / 1000:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Start, seed, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "latest.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "data"
        port = machine.free_port()
        command = [sys.executable, "-m", "lantern.cli", "serve", "--port", str(port)]
        server = subprocess.Popen(
            [*command, "--data-dir", str(data)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            machine.wait_http(f"{url}/healthz", server)
            with postgres.acquire(data) as cluster:
                tenant, key = asyncio.run(furnish(cluster.dsn))
                began = time.monotonic()
                seed.seed(cluster.dsn, tenant, options.runs, options.rows)
                took = time.monotonic() - began
                print(
                    f"seeded {options.runs:,} runs and {options.rows:,} rows of each in {took:.0f} s"
                )
                rows = measure(url, key, options.times)
                size = first_load(url, key)
        finally:
            machine.stop(server)
    facts = f"{machine.facts()}; {options.runs:,} runs, {options.rows:,} rows of log, ledger and assignments each"
    text = table(rows, size, facts)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
