"""The floor: the model's stream handed through a bare Starlette app, by aiohttp and orjson.

MODE=sse    each delta is parsed and written again as an event of ours, one write a token
MODE=batch  the same, but all deltas of one read go out in one write (no waiting, no delay added)
"""

import os
import time

import aiohttp
import orjson
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

URL = os.environ["FAKE"] + "/v1/chat/completions"
BATCH = os.environ.get("MODE") == "batch"
JSON = {"content-type": "application/json"}
session: aiohttp.ClientSession | None = None


def model() -> aiohttp.ClientSession:
    global session
    session = session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000))
    return session


def event(line: bytes) -> bytes:
    """The event to send for one event of the model; empty when it says nothing."""
    if line == b"data: [DONE]":
        return b'data: {"type":"run.complete"}\n\n'
    choices = orjson.loads(line[6:])["choices"]
    text = choices[0]["delta"].get("content") if choices else None
    if not text:
        return b""
    value = {"type": "token", "content": text, "timestamp": time.time()}
    return b"data: " + orjson.dumps(value) + b"\n\n"


async def events(body: bytes):
    rest = b""
    async with model().post(URL, data=body, headers=JSON) as answer:
        async for read in answer.content.iter_any():
            *lines, rest = (rest + read).split(b"\n\n")
            out = [data for line in lines if (data := event(line))]
            if BATCH and out:
                out = [b"".join(out)]
            for data in out:
                yield data


async def chat(request):
    return StreamingResponse(events(await request.body()), media_type="text/event-stream")


async def ok(request):
    return PlainTextResponse("ok")


app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/ok", ok)])
