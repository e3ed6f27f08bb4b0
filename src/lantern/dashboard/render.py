"""Templates: the environment, the filters, how moments and numbers are written for people."""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lantern import __version__
from lantern.core import clock, http
from lantern.dashboard import static

_PASSING = re.compile(r"(<time[^>]*>)[^<]*|(name=\"csrf\" value=\")\w*")

NONE = "\u2013"  # where there is no value
MANY = 10_000  # above it a count is not worth its time


def template(name: str, /, **context: Any) -> str:
    """A template as text."""
    return environment().get_template(name).render(**context)


@cache
def environment() -> Environment:
    """All templates of the dashboard; every value is escaped, an unknown one is an error."""
    made = Environment(
        loader=PackageLoader("lantern.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ago": ago,
        "count": count,
        "credits": credits_text,
        "duration": duration,
        "json": pretty,
        "number": number,
        "quoted": quoted,
        "share": share,
        "took": took,
        "usd": usd,
    }
    made.globals |= {"static": static.url, "version": __version__, "now": clock.now}
    return made


@cache
def _snippets() -> dict[str, str]:
    folder = resources.files("lantern.dashboard") / "snippets"
    return {entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.is_file()}


def snippet(name: str, origin: str) -> str:
    """An example by its file's name, for a server's address. KeyError: there is none."""
    return _snippets()[name].replace("{{ url }}", origin).rstrip("\n")


def digest(html: str) -> str:
    """What tells two states of a place apart: not the words of relative times, not a form's token."""
    return hashlib.sha256(_PASSING.sub(r"\1\2", html).encode()).hexdigest()[:16]


def ago(moment: datetime | str | None) -> Markup:
    """`3 min ago`, the exact moment on hover; static/app.js keeps it true. None: a dash."""
    if moment is None:
        return Markup('<span class="none">{}</span>').format(NONE)
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    exact = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        clock.iso(at), exact, relative((clock.now() - at).total_seconds())
    )


def relative(seconds: float) -> str:
    """Seconds since then (below 0: until then), in one rough word; app.js has the same steps."""
    size = abs(seconds)
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h")):
        if size < limit:
            text = f"{int(size // unit)} {name}"
            break
    else:
        text = f"{int(size // 86_400)} d"
    if size < 1:
        return "now"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def duration(ms: float | None) -> str:
    """Milliseconds as `820 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if ms is None:
        return NONE
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def took(run: Mapping[str, Any]) -> str:
    """How long a run took, or has taken so far."""
    if not run["started_at"]:
        return NONE
    began = datetime.fromisoformat(run["started_at"])
    ended = datetime.fromisoformat(run["finished_at"]) if run["finished_at"] else clock.now()
    return duration((ended - began).total_seconds() * 1000)


def number(value: float | Decimal | None) -> str:
    """`12,345`; fractions as they are."""
    if value is None:
        return NONE
    plain = http.plain(value) if isinstance(value, Decimal) else value
    return f"{plain:,}"


def count(value: int) -> str:
    """A count that was taken up to MANY: `10,000+` above it."""
    return f"{MANY:,}+" if value > MANY else f"{value:,}"


def usd(value: float | Decimal | None) -> str:
    """US dollars: two places, four below a cent's worth of doubt. None: the price is not known."""
    if value is None:
        return NONE
    amount = Decimal(str(value))
    if amount and abs(amount) < Decimal("0.0001"):
        return "< $0.0001"
    return f"${amount:,.4f}" if abs(amount) < 1 and amount else f"${amount:,.2f}"


def credits_text(value: float | Decimal | None) -> str:
    """Credits without trailing zeros, thousands apart."""
    if value is None:
        return NONE
    text = f"{Decimal(str(value)):,.4f}"
    return text.rstrip("0").rstrip(".")


def share(value: float) -> str:
    """A part of one as `12.5 %`."""
    return f"{value * 100:.1f} %"


def pretty(value: Any) -> str:
    """JSON for people."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=http.plain).decode()


def quoted(value: Any) -> str:
    """JSON on one line, for a shell's single quotes."""
    return orjson.dumps(value, default=http.plain).decode().replace("'", "'\\''")
