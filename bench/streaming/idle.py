"""What silence costs; prints one JSON line.

With `-c 256`: that many streams are held open on runs whose model says nothing. With `-c 0`: nobody
is connected. Then the CPU of the target and its Postgres over some seconds, and their memory.
"""

import asyncio
import json
import time

import uvloop
from adapters import ADAPTERS
from client import connect, options_parser, set_model
from machine import cpu_seconds, memory

FOREVER_MS = 3_600_000
OPENING = 16  # at once, so that a slow target is not flooded
PATIENCE = 60  # seconds for all streams to be open


async def hold(options, adapter, gate):
    """A connection whose last request, the stream, has been sent and has not ended."""
    async with gate:
        connection = await connect(options.base)
        requests = adapter.requests()
        request = next(requests)
        for _ in range(adapter.steps - 1):
            await connection.request(*request, False)
            request = requests.send(connection.json())
            connection = await connect(options.base, connection)
        connection.request(*request, False)
        await asyncio.sleep(0.05)
        return connection


async def open_streams(options):
    """All connections, once each has its own silent request at the model."""
    adapter = ADAPTERS[options.adapter](**options.adapter_args)
    already = set_model(options.fake, first_ms=FOREVER_MS, inter_ms=0)["open"]
    adapter.setup(options.base)
    gate = asyncio.Semaphore(OPENING)
    held = await asyncio.gather(*(hold(options, adapter, gate) for _ in range(options.c)))
    end = time.monotonic() + PATIENCE
    while set_model(options.fake)["open"] - already < options.c and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return held


async def main(options):
    held = await open_streams(options) if options.c else []
    await asyncio.sleep(options.settle)
    used, began = cpu_seconds(options.pids), time.monotonic()
    await asyncio.sleep(options.seconds)
    used, wall = cpu_seconds(options.pids) - used, time.monotonic() - began
    still = sum(not c.future.done() and c.transport is not None for c in held)
    result = {
        "streams": still,
        "errors": options.c - still,
        "model_requests": set_model(options.fake)["open"],
        "cpu_percent": round(100 * used / wall, 2),
        **memory(options.pids),
    }
    print(json.dumps(result))
    for connection in held:
        if connection.transport is not None:
            connection.transport.abort()


if __name__ == "__main__":
    parser = options_parser(__doc__)
    parser.add_argument("--settle", type=float, default=1)
    uvloop.run(main(parser.parse_args()))
