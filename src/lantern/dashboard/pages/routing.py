"""Routing: the list of pools, and a new one."""

from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from lantern import routing
from lantern.core.errors import BadRequest, LanternError
from lantern.dashboard import forms
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View

PER_PAGE = 50
MOST_FAULTS = 5  # rows that a form lists
COLUMNS = ("user_id", "name", "weight")  # of lines without a first line that names them


def place(pool: str, rest: str = "") -> str:
    """The address of a pool's page, or of one below it; any printable name fits."""
    return f"/routing/pools/{quote(pool, safe='')}{rest}"


@page("/routing", account=True)
async def listed(view: View) -> Response:
    """Pools by name; `q`: a part of it."""
    word, number = view.query("q")[:100], view.number("page", 1)
    offset = (number - 1) * PER_PAGE
    pools, total = await routing.pools.table(view.tx, word, PER_PAGE, offset)
    return view.page(
        "routing/list.html",
        pools=pools,
        total=total,
        number=number,
        more=offset + PER_PAGE < total,
    )


@page("/routing/new", "write", account=True)
async def new(view: View) -> Response:
    """The form of a new pool."""
    return view.page("routing/new.html", errors={})


@action("/routing/new", account=True)
async def create(view: View) -> Response:
    """Make a pool of the people that were typed, a line each."""
    fallback = view.field("fallback").strip()
    try:
        members, errors = members_of(view.field("members")), {}
    except BadRequest as error:
        members, errors = [], {"members": rows_refused(error, view.field("members"))}
    try:
        policy = {"fallback": {"user_id": fallback}} if fallback else {}
        name = view.field("pool").strip()
        body = forms.read(
            routing.pools.PoolCreate, {"pool": name, "members": members, "policy": policy}
        )
        if not errors:
            made = await routing.pools.create(view.call, body)
            return view.go(place(made["pool"]), f"Pool {name} is there: assign it a record")
    except LanternError as error:
        found = {_FIELDS.get(n, n): text for n, text in forms.faults(error).items()}
        errors = errors | (found if error.status == 400 else {"pool": error.message})
    return view.page("routing/new.html", 400, errors=errors)


_FIELDS = {"policy.fallback.user_id": "fallback", "members.user_id": "members"}


# ---------------------------------------------------------------- people as lines
def members_of(text: str) -> list[dict[str, Any]]:
    """Members as requests carry them. Raises BadRequest."""
    table = sheet(text)
    return routing.pools.members_in(table) if table.strip() else []


def sheet(text: str) -> str:
    """CSV with its first line: lines without one are user id, name, weight. Tabs are commas too."""
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and "," not in text:
        lines = [line.replace("\t", ",") for line in lines]
    if not lines or _has_header(lines[0]):
        return "\n".join(lines)
    most = max(len(line.split(",")) for line in lines)
    return "\n".join([",".join(COLUMNS[:most]), *lines])


def _has_header(line: str) -> bool:
    return "user_id" in [cell.strip().lower() for cell in line.replace("\t", ",").split(",")]


def rows_refused(error: LanternError, text: str) -> str:
    """What is wrong with the lines that were typed, by their numbers."""
    details = error.details if isinstance(error.details, dict) else {}
    refused = details.get("refused", [])
    if not refused:
        return "; ".join(forms.faults(error).values())
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    added = not _has_header(text.splitlines()[lines[0] - 1])
    told = []
    for row in refused[:MOST_FAULTS]:
        at = row["line"] - 1 - added
        told.append(f"line {lines[min(at, len(lines) - 1)]}, {row['field']}: {row['message']}")
    more = len(refused) - MOST_FAULTS
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
