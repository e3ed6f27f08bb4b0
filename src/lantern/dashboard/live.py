"""Pages that change while they are looked at: HTML in server-sent events, put in place by hx-sse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from html import escape

from lantern.core import clock
from lantern.dashboard import render
from lantern.dashboard.view import View
from lantern.gate import sessions

HEARTBEAT_SECONDS = 15.0
CHECK_SECONDS = 30.0  # how long a stream may outlive its session or key
HEARTBEAT = b": heartbeat\n\n"


def patch(target: str, html: str, swap: str = "innerMorph") -> str:
    """HTML for one place of the page; several of them make one message."""
    return f'<hx-partial hx-target="{escape(target)}" hx-swap="{swap}">{html}</hx-partial>'


def message(html: str, seq: int | None = None) -> bytes:
    """One event; after a broken connection the browser names the last `seq` it has seen."""
    data = "".join(f"data: {line}\n" for line in html.split("\n"))
    return (data + (f"id: {seq}\n" if seq is not None else "") + "\n").encode()


def ending(name: str = "end") -> bytes:
    """An event that closes the stream for good, where the page says `hx-sse:close`."""
    return f"event: {name}\ndata: {name}\n\n".encode()


async def watch(
    view: View, target: str, draw: Callable[[View], Awaitable[str]]
) -> AsyncIterator[bytes]:
    """Draw a place again and again; send it when it has changed since `?seen=`."""
    seen = view.query("seen")
    spoke = checked = clock.monotonic()
    while True:
        now = clock.monotonic()
        if now - checked >= CHECK_SECONDS:
            checked = now
            await readmit(view)
        async with view.call.db.transaction(view.call.tenant) as tx:
            view.call.open_tx = tx
            try:
                html = await draw(view)
            finally:
                view.call.open_tx = None
        if (state := render.digest(html)) != seen:
            seen, spoke = state, now
            yield message(patch(target, html))
        elif now - spoke >= HEARTBEAT_SECONDS:
            spoke = now
            yield HEARTBEAT
        await asyncio.sleep(view.settings.dashboard.refresh_seconds)


async def readmit(view: View) -> None:
    """Raises once the session or its key has ended."""
    if view.session is not None:
        await sessions.admit(view.call, view.session.raw)
