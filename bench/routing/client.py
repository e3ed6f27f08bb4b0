"""The load: keep-alive connections of one process, closed loop or paced; no HTTP library in the way."""

import asyncio
import itertools
import json
import random
import sys
import time

import uvloop

COUNTER = itertools.count(random.randrange(10**9) * 1000)


class Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self):
        self.buffer, self.waiting, self.transport = b"", None, None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.buffer.find(b"content-length: ", 0, head) + 16
        length = int(self.buffer[at : self.buffer.find(b"\r\n", at)])
        if len(self.buffer) >= head + 4 + length:
            status, body = int(self.buffer[9:12]), self.buffer[head + 4 :]
            self.buffer, waiting = b"", self.waiting
            waiting.set_result((status, body))

    def connection_lost(self, error):
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(error or ConnectionError("closed"))

    async def ask(self, key, pool):
        body = b'{"object":"lead","sf_id":"00Q%012dAAA","pool":"%s"}' % (
            next(COUNTER),
            pool.encode(),
        )
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(
            b"POST /v1/routing/assign HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (key.encode(), len(body), body)
        )
        return await self.waiting


class Load:
    """Figures of one cell."""

    def __init__(self, job):
        self.job, self.times, self.errors, self.example = job, [], 0, ""

    async def one(self, connection, turn, began):
        callers = self.job["callers"]
        key, pool = callers[turn % len(callers)]
        status, body = await connection.ask(key, pool)
        self.times.append(time.perf_counter() - began)
        if status != 200:
            self.errors, self.example = self.errors + 1, body.decode()[:300]

    async def closed(self, connections, seconds):
        """Each connection asks again as soon as it is answered."""
        end = time.perf_counter() + seconds

        async def loop(connection, first):
            for turn in itertools.count(first, len(connections)):
                began = time.perf_counter()
                if began >= end:
                    return
                await self.one(connection, turn, began)

        await asyncio.gather(*(loop(c, n) for n, c in enumerate(connections)))

    async def paced(self, connections, seconds):
        """So many a second, whether or not the last ones are answered; waiting counts."""
        free = asyncio.Queue()
        for connection in connections:
            free.put_nowait(connection)
        start, rate = time.perf_counter(), self.job["rate"]

        async def at(turn, due):
            connection = await free.get()
            try:
                await self.one(connection, turn, due)
            finally:
                free.put_nowait(connection)

        tasks = []
        for turn in range(int(rate * seconds)):
            due = start + turn / rate
            await asyncio.sleep(max(0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(at(turn, due)))
        await asyncio.gather(*tasks)


async def main(job):
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(Connection, "127.0.0.1", job["port"]))[1]
        for _ in range(job["connections"])
    ]
    load = Load(job)
    run = load.paced if job.get("rate") else load.closed
    await run(connections, job["warmup"])
    load.times.clear()
    print("go", flush=True)
    cpu, began = time.process_time(), time.perf_counter()
    await run(connections, job["seconds"])
    took = time.perf_counter() - began
    times = sorted(load.times)
    return {
        "count": len(times),
        "rate": len(times) / took,
        "p50": 1000 * times[len(times) // 2],
        "p99": 1000 * times[int(len(times) * 0.99)],
        "max": 1000 * times[-1],
        "errors": load.errors,
        "example": load.example,
        "load": (time.process_time() - cpu) / took,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(json.load(sys.stdin)))), flush=True)
