"""What the palette finds: pages by name, agents, pools and runs by what was typed."""

from contextlib import suppress
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from lantern import agents, routing, runs
from lantern.core.errors import NotFound
from lantern.dashboard.routes import page
from lantern.dashboard.view import View

MOST = 6


@page("/find")
async def find(view: View) -> Response:
    """The list below the palette's field."""
    word = view.query("q")[:100]
    objects = await _objects(view, word) if word else ()
    return view.partial("_found.html", q=word, objects=objects)


async def _objects(view: View, word: str) -> list[tuple[str, list[dict[str, Any]]]]:
    call = view.call
    named = await agents.find(call, word, MOST)
    found = [
        ("Agents", [_hit(f"/agents/{a['name']}", a["name"], a["status"], "agent") for a in named])
    ]
    if word.startswith("run_"):
        with suppress(NotFound):
            run = await runs.fetch(call.tx, word, call.covers)
            hit = _hit(f"/runs/{word}", word, f"{run['agent']} · {run['status']}", "run")
            found.append(("Runs", [hit]))
    if call.agents == ["*"]:
        pools, _ = await routing.pools.table(call.tx, word, MOST, 0)
        hits = [
            _hit(f"/routing/pools/{quote(p['pool'], safe='')}", p["pool"], "pool", "routing")
            for p in pools
        ]
        found.append(("Pools", hits))
    return found


def _hit(path: str, title: str, note: str, icon: str) -> dict[str, Any]:
    return {"path": path, "title": title, "note": note, "icon": icon}
