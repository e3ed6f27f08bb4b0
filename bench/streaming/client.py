"""Load client: raw HTTP/1.1 on uvloop, one kept-alive connection a worker; prints one JSON line.

Closed loop: `-c` workers, each starting its next run when its last one has ended. A run gives
    began   just before its first request is written
    first   when the bytes with the first token "@R~S@" were read (R, S: see fakellm.py)
    ended   when the streamed answer ended
and from these
    TTFT added = (first - began) - (S - R)   what target and loopback put before the first token
    transit    = read(k) - S(k)              for each token, paced scenarios only
A run counts only if its status is 2xx and the last token "#end#" came through.
"""

import argparse
import asyncio
import gc
import json
import os
import re
import time
import urllib.request
from dataclasses import dataclass, field

import uvloop
from adapters import ADAPTERS
from machine import busy_seconds, cpu_seconds

now = time.monotonic_ns
FIRST = re.compile(rb"@(\d{9,})~(\d{9,})@")
NEXT = re.compile(rb"@(\d{9,})@")
WARM_WORKERS = 16


class Connection(asyncio.Protocol):
    """One connection; `request` writes, and its future ends with the answer's body."""

    transport = None
    future = None
    head = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        self.transport = None
        if self.future and not self.future.done():
            if self.head is not None and self.length is None and not self.chunked:
                self.future.set_result(None)  # a body that ends with its connection
            else:
                self.future.set_exception(ConnectionError("closed"))

    def request(self, method, path, headers, body, paced):
        lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n{lines}"
        self.paced = paced
        self.buffer, self.head, self.status, self.length, self.chunked = b"", None, 0, None, False
        self.size = self.first = self.received = self.sent = self.last = 0
        self.stamps, self.complete, self.kept = [], False, []
        self.future = asyncio.get_running_loop().create_future()
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return self.future

    def data_received(self, data):
        at = now()
        if self.head is None:
            self.buffer += data
            head, found, data = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            self.parse_head(head.lower())
            self.buffer = b""
        self.size += len(data)
        if not self.streams:
            self.kept.append(data)
        data = self.buffer + data
        if self.streams:
            self.look(at, data)
        self.buffer = data[-48:]  # a stamp or an ending may be cut by the next read
        if self.chunked:
            ended = data.endswith(b"\r\n0\r\n\r\n") or data == b"0\r\n\r\n"
        else:
            ended = self.length is not None and self.size >= self.length
        if ended and not self.future.done():
            self.future.set_result(None)

    def parse_head(self, head):
        self.head, self.status = head, int(head[9:12])
        self.chunked = b"transfer-encoding: chunked" in head
        self.streams = b"text/event-stream" in head
        at = head.find(b"content-length:")
        if at >= 0:
            self.length = int(head[at + 15 :].split(b"\r\n", 1)[0])

    def look(self, at, data):
        """Find the model's stamps in what was read at `at`."""
        if not self.first and (found := FIRST.search(data)):
            self.first, self.received, self.sent = at, int(found[1]), int(found[2])
            self.last = self.sent
            self.stamps.append((at, self.sent))
        if self.paced and self.first:
            for found in NEXT.finditer(data):
                sent = int(found[1])
                if sent > self.last:  # an older one is a repeat, such as a full text at the end
                    self.last = sent
                    self.stamps.append((at, sent))
        if not self.complete and b"#end#" in data:
            self.complete = True

    def json(self):
        raw = b"".join(self.kept)
        if self.status >= 300:
            raise RuntimeError(f"{self.status} {raw[:200]!r}")
        return json.loads(raw[raw.find(b"{") : raw.rfind(b"}") + 1])


@dataclass
class Phase:
    """What the workers of one phase share."""

    until: int
    runs: list = field(default_factory=list)
    errors: int = 0
    samples: list = field(default_factory=list)

    def failed(self, error):
        self.errors += 1
        if len(self.samples) < 5:
            self.samples.append(f"{type(error).__name__}: {error}"[:300])

    def hopeless(self):
        return self.errors > 50 and self.errors > len(self.runs)


async def connect(base, old=None):
    if old is not None and old.transport is not None:
        return old
    host, port = base.split("//")[1].split(":")
    return (await asyncio.get_running_loop().create_connection(Connection, host, int(port)))[1]


async def one_run(connection, options, adapter):
    """(began, first, ended, received, sent, stamps, bytes) of one run, and its connection."""
    requests = adapter.requests()
    request, began = next(requests), now()
    for step in range(adapter.steps):
        connection = await connect(options.base, connection)
        answer = connection.request(*request, options.inter_ms > 0)
        await asyncio.wait_for(answer, options.timeout)
        if step < adapter.steps - 1:
            request = requests.send(connection.json())
    ended = now()
    if connection.status >= 300 or not connection.complete or not connection.first:
        body = b"".join(connection.kept)[:200]
        raise RuntimeError(f"status {connection.status} end={connection.complete} {body!r}")
    c = connection
    if b"connection: close" in c.head and c.transport:
        c.transport.close()
    return (began, c.first, ended, c.received, c.sent, c.stamps, c.size), c


async def worker(options, adapter, phase):
    connection = None
    while now() < phase.until and not phase.hopeless():
        try:
            connection = await connect(options.base, connection)
            run, connection = await one_run(connection, options, adapter)
            phase.runs.append(run)
        except Exception as error:
            phase.failed(error)
            if connection is not None and connection.transport is not None:
                connection.transport.abort()
            connection = None
            await asyncio.sleep(0.05)
    if connection is not None and connection.transport is not None:
        connection.transport.close()


def spread(values) -> dict[str, float]:
    """Percentiles of nanoseconds, in milliseconds."""
    ordered = sorted(values)

    def at(part):
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1e6, 3)

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99)}


def summary(options, phase, wall) -> dict:
    runs = phase.runs
    result = {
        "concurrency": options.c,
        "runs": len(runs),
        "errors": phase.errors,
        "error_samples": phase.samples,
        "wall_s": round(wall, 3),
    }
    if not runs:
        return result
    result |= {
        "runs_per_s": round(len(runs) / wall, 2),
        "bytes_per_run": round(sum(size for *_, size in runs) / len(runs)),
        "ttft_added_ms": spread((r[1] - r[0]) - (r[4] - r[3]) for r in runs),
        "before_model_ms": spread(r[3] - r[0] for r in runs),
        "after_model_ms": spread(r[1] - r[4] for r in runs),
        "total_ms": spread(r[2] - r[0] for r in runs),
    }
    if options.inter_ms > 0:
        stamps = [stamp for r in runs for stamp in r[5]]
        result["transit_ms"] = spread(read - sent for read, sent in stamps)
        result["stamps_per_run"] = round(len(stamps) / len(runs), 2)
    return result


async def measure(options, adapter, seconds, workers):
    """One phase with its CPU: the tree's per run, the database's share, and other people's."""
    phase = Phase(now() + int(seconds * 1e9))
    groups = (options.pids, options.db_pids, [os.getpid(), *options.load_pids])
    began, before, busy = now(), [cpu_seconds(g) for g in groups], busy_seconds()
    await asyncio.gather(*(worker(options, adapter, phase) for _ in range(workers)))
    wall = (now() - began) / 1e9
    used, database, load = (cpu_seconds(g) - b for g, b in zip(groups, before, strict=True))
    per_run = 1000 / max(1, len(phase.runs))
    return {
        **summary(options, phase, wall),
        "cpu_ms_per_run": round(used * per_run, 3),
        "db_cpu_ms_per_run": round(database * per_run, 3),
        "target_cores": round(used / wall, 3),
        "load_cores": round(load / wall, 3),
        "foreign_cores": round(max(0.0, busy_seconds() - busy - used - load) / wall, 3),
    }


def set_model(fake: str, **settings) -> dict:
    """Tell the fake how to answer from now on; gives its counters."""
    body = json.dumps(settings).encode()
    request = urllib.request.Request(fake + "/ctl", method="POST", data=body)
    return json.loads(urllib.request.urlopen(request, timeout=10).read())


def options_parser(doc) -> argparse.ArgumentParser:
    """What every load script needs to know about its target."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--base", required=True)
    parser.add_argument("--fake", required=True)
    parser.add_argument("--adapter", required=True, choices=ADAPTERS)
    parser.add_argument("--adapter-args", type=json.loads, default={})
    parser.add_argument("-c", type=int, default=1, help="workers, or streams held open")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--pids", type=int, nargs="*", default=[], help="the target, all of it")
    parser.add_argument("--db-pids", type=int, nargs="*", default=[], help="its Postgres")
    return parser


async def main(options):
    adapter = ADAPTERS[options.adapter](**options.adapter_args)
    set_model(
        options.fake, tokens=options.tokens, first_ms=options.first_ms, inter_ms=options.inter_ms
    )
    adapter.setup(options.base)
    gc.disable()
    await measure(options, adapter, options.warm, min(options.c, WARM_WORKERS))
    print(json.dumps(await measure(options, adapter, options.seconds, options.c)))


if __name__ == "__main__":
    parser = options_parser(__doc__)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--first-ms", type=float, default=0)
    parser.add_argument("--inter-ms", type=float, default=0)
    parser.add_argument("--warm", type=float, default=1)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--load-pids", type=int, nargs="*", default=[], help="the fake")
    uvloop.run(main(parser.parse_args()))
