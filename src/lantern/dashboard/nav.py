"""What stands in the side bar and in the palette: a line for each page."""

from dataclasses import dataclass

HOME = "/dashboard"


@dataclass(frozen=True, slots=True)
class Entry:
    """A page. `key`: pressed after `g` it goes there. `icon`: a symbol of static/icons.svg."""

    title: str
    path: str
    icon: str
    key: str


Nav = tuple[tuple[str, tuple[Entry, ...]], ...]

NAV: Nav = (
    (
        "Build",
        (
            Entry("Overview", HOME, "home", "o"),
            Entry("Agents", f"{HOME}/agents", "agent", "a"),
            Entry("Runs", f"{HOME}/runs", "run", "r"),
        ),
    ),
    ("Data", (Entry("Routing", f"{HOME}/routing", "routing", "p"),)),
    (
        "Operate",
        (
            Entry("Logs", f"{HOME}/logs", "log", "l"),
            Entry("Credits", f"{HOME}/credits", "credit", "c"),
            Entry("API keys", f"{HOME}/settings/keys", "key", "k"),
            Entry("Models", f"{HOME}/settings/models", "model", "m"),
            Entry("Health", f"{HOME}/health", "health", "h"),
        ),
    ),
)
