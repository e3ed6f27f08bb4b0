"""One run: its text as it is written, its steps in time, what went in, what came out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import orjson
from markupsafe import escape
from starlette.responses import Response

from lantern import runs
from lantern.core import clock
from lantern.core.errors import BadRequest
from lantern.dashboard import live
from lantern.dashboard.charts import waterfall
from lantern.dashboard.routes import action, page, stream
from lantern.dashboard.view import View

PAUSE_SECONDS = 0.04  # between two messages: tokens that came meanwhile go as one
REDRAW_SECONDS = 1.0  # so that bars and durations of what goes on grow
CLEAR = '<hx-partial hx-target="#tokens" hx-swap="innerHTML swapEmpty:true"></hx-partial>'


@page("/runs/{run_id}")
async def shown(view: View) -> Response:
    """The whole run; `?step=` opens one of its steps."""
    run = await _run(view)
    return view.page("runs/run.html", kept=False, **_context(view, run))


@stream("/runs/{run_id}/live")
async def following(view: View) -> AsyncIterator[bytes]:
    """Tokens and changes behind `Last-Event-ID`; the same `follow` as the API's stream."""
    seq = view.request.headers.get("last-event-id", "") or view.query("from", "0")
    if not seq.isascii() or not seq.isdigit() or len(seq) > 15:
        raise BadRequest("Last-Event-ID: not an event of this stream")
    source = await runs.follow(view.bus, view.call, view.arg("run_id"), int(seq))
    return _patches(view, source)


@action("/runs/{run_id}/cancel")
async def cancel(view: View) -> Response:
    """Cancel: final at once, the model's call is aborted within a second."""
    run_id = view.arg("run_id")
    await runs.cancel_run(view.call, run_id, "cancelled in the dashboard")
    view.call.after_commit.append(lambda: view.part.engine.stop_cancelled(run_id))
    return view.go(f"/runs/{run_id}", "Cancelled")


@action("/runs/{run_id}/rerun")
async def rerun(view: View) -> Response:
    """Start the agent again with the same input and labels."""
    run = await runs.fetch(view.tx, view.arg("run_id"), view.call.covers)
    if run["agent"] is None:
        raise BadRequest("This run has no agent to run again")
    made = await runs.queue(view.call, run["agent"], run["input"], run["labels"])
    view.call.after_commit.append(view.node.wake)
    return view.go(f"/runs/{made}", "Runs again with the same input")


async def _run(view: View) -> dict[str, Any]:
    return await runs.detail(view.tx, view.arg("run_id"), view.call.covers)


def _context(view: View, run: dict[str, Any]) -> dict[str, Any]:
    began, ended = run["created_at"], run["finished_at"]
    until = clock.parse(ended) if ended else clock.now()
    whole = (until - clock.parse(began)).total_seconds() * 1000
    chosen = view.query("step") or (run["steps"][-1]["name"] if run["steps"] else "")
    step = next((s for s in run["steps"] if s["name"] == chosen), None)
    bars = waterfall(run["spans"], whole)
    return {"run": run, "bars": bars, "whole_ms": whole, "step": step, "chosen": chosen}


async def _patches(view: View, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Frames of the API's stream as HTML: text is added, whatever else has changed is drawn again."""
    checked = drawn = clock.monotonic()
    async with aclosing(source) as frames:  # type: ignore[type-var]
        async for data in frames:
            now = clock.monotonic()
            if now - checked > live.CHECK_SECONDS:
                checked = now
                await live.readmit(view)
            html, seq, final = _html(data)
            if html.turned or now - drawn > REDRAW_SECONDS:
                drawn = now
                html.parts += await _drawn(view, final=final)
            yield live.message("".join(html.parts), seq) if html.parts else live.HEARTBEAT
            if final:
                break
            await asyncio.sleep(PAUSE_SECONDS)
    yield live.ending()


class _Html:
    """What a few events come to: patches, and whether more than text has changed."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.text: list[str] = []
        self.turned = False

    def close(self) -> None:
        """Turn the text so far into a patch."""
        if self.text:
            self.parts.append(live.patch("#tokens", str(escape("".join(self.text))), "beforeend"))
            self.text.clear()


def _html(data: bytes) -> tuple[_Html, int | None, bool]:
    """Patches, the last seq, and whether nothing follows."""
    html, seq, final = _Html(), None, False
    for frame in data.split(b"\n\n"):
        line = frame.partition(b"data: ")[2]
        if not line:
            continue
        event = orjson.loads(line)
        seq = event["seq"]
        if event["type"] == "token":
            html.text.append(event["content"])
            continue
        html.turned = True
        if event["type"] in ("step.start", "step.restart"):
            html.text.clear()
            html.parts.append(CLEAR)
        final = final or event["kind"] == "end"
    html.close()
    return html, seq, final


async def _drawn(view: View, *, final: bool) -> list[str]:
    async with view.call.db.transaction(view.call.tenant) as tx:
        run = await runs.detail(tx, view.arg("run_id"), view.call.covers)
    context = _context(view, run) | {"kept": True}  # what was watched keeps its size
    places = {"#run-head": "_head", "#run-tiles": "_tiles", "#run-steps": "_steps"}
    if final:
        places |= {"#run-output": "_output", "#run-step": "_step"}
    return [
        live.patch(place, view.draw(f"runs/{name}.html", **context))
        for place, name in places.items()
    ]
