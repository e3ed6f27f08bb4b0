"""The floor of the product's two requests: the run starts in this process, the stream follows it.

Memory only, no keys, no database: what the shape of the API costs by itself.
"""

import asyncio
import uuid

import orjson
from floor import JSON, URL, event, model, ok
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

BODY = orjson.dumps(
    {
        "model": "fake",
        "stream": True,
        "messages": [{"role": "user", "content": "Say something."}],
    }
)
runs: dict[str, "Run"] = {}
tasks: set[asyncio.Task] = set()


class Run:
    """The events of one run, and a bell that rings when there are more."""

    def __init__(self):
        self.events, self.done, self.bell = [], False, asyncio.Event()

    def put(self, data, done=False):
        self.events.append(data)
        self.done = done
        self.bell.set()
        self.bell = asyncio.Event()


async def execute(run):
    rest = b""
    async with model().post(URL, data=BODY, headers=JSON) as answer:
        async for read in answer.content.iter_any():
            *lines, rest = (rest + read).split(b"\n\n")
            if out := b"".join(event(line) for line in lines if line != b"data: [DONE]"):
                run.put(out)
    run.put(b'data: {"type":"run.complete"}\n\n', done=True)


async def create(request):
    await request.json()
    run_id = "run_" + uuid.uuid4().hex[:16]
    run = runs[run_id] = Run()
    task = asyncio.create_task(execute(run))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    value = {"run_id": run_id, "agent": request.path_params["name"], "status": "queued"}
    return Response(orjson.dumps(value), 201, media_type="application/json")


async def follow(run_id):
    run, seen = runs[run_id], 0
    while True:
        bell = run.bell
        if seen < len(run.events):
            part, seen = run.events[seen:], len(run.events)
            yield b"".join(part)
        elif run.done:
            del runs[run_id]
            return
        else:
            await bell.wait()


async def stream(request):
    return StreamingResponse(follow(request.path_params["id"]), media_type="text/event-stream")


async def agents(request):
    return Response(b"{}", 201, media_type="application/json")


app = Starlette(
    routes=[
        Route("/v1/agents/{name}/runs", create, methods=["POST"]),
        Route("/v1/agents", agents, methods=["POST"]),
        Route("/v1/runs/{id}/stream", stream),
        Route("/ok", ok),
    ]
)
