"""Documentation is kept true: everything is documented, every marked example is executed.

A fenced block whose info string has the word `run` (```bash run, ```python run) is executed against a
real server with LANTERN_URL and LANTERN_KEY set. The blocks of one page run in order, in one directory;
variables that a bash block sets reach the next one. A block ```text expect after it lists lines
that its output must contain in this order; `...` stands for anything.

`python tests/test_docs.py` rewrites the settings tables of docs/operating.md.
"""

import asyncio
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ADRS = sorted((DOCS / "adr").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "clients" / "python" / "README.md", *sorted(DOCS.rglob("*.md"))]
TOP = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "AGENTS.md")]

SETTINGS = re.compile(r"(<!-- settings[^\n]*-->\n).*?(<!-- /settings -->)", re.DOTALL)
ROUTE = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE) (/[\w./{}-]*)")
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADINGS = ["Status", "Context", "Decision", "Consequences", "Alternatives"]
MAX_ADR_LINES = 80
SECONDS = 60


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# --- settings ---------------------------------------------------------------------------------


def group_of(annotation: Any) -> type[BaseModel] | None:
    """The settings group behind a field's type: `Group` itself or `list[Group]`."""
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def shown(info: Any) -> str:
    value = info.default if info.default_factory is None else info.default_factory()
    if value is PydanticUndefined:
        return "required"
    return "none" if value is None else f"`{json.dumps(value, default=str)}`"


def table(prefix: str, model: type[BaseModel], skip_groups: bool = False) -> Iterator[str]:
    """The rows of one group."""
    yield "| Setting | Environment | Default | Meaning |"
    yield "|---|---|---|---|"
    for name, info in model.model_fields.items():
        if skip_groups and group_of(info.annotation):
            continue
        variable = (
            f"`LANTERN_{prefix}{name.upper()}`" if prefix != "MODELS" else "in `LANTERN_MODELS`"
        )
        meaning = (info.description or "").replace("|", "\\|")
        yield f"| `{name}` | {variable} | {shown(info)} | {meaning} |"


def settings_tables() -> str:
    """What stands between the markers of docs/operating.md."""
    model = importlib.import_module("lantern.settings").Settings
    lines = ["", *table("", model, skip_groups=True), ""]
    for name, info in model.model_fields.items():
        if not (group := group_of(info.annotation)):
            continue
        many = str(info.annotation).startswith("list")
        heading = f"[[{name}]]" if many else f"[{name}]"
        lines += [f"### `{heading}`", "", (group.__doc__ or "").splitlines()[0], ""]
        lines += [*table("MODELS" if many else f"{name.upper()}__", group), ""]
    return "\n".join(lines)


def test_every_setting_says_what_it_means():
    model = importlib.import_module("lantern.settings").Settings
    groups = {name: group_of(info.annotation) for name, info in model.model_fields.items()}
    for group in filter(None, groups.values()):
        silent = [name for name, info in group.model_fields.items() if not info.description]
        assert not silent, f"{group.__name__}: {silent}"


def test_every_setting_is_documented():
    block = SETTINGS.search(text(DOCS / "operating.md"))
    assert block, "docs/operating.md lost its settings markers"
    assert block.group() == f"{block[1]}{settings_tables()}{block[2]}", (
        "out of date: run `.venv/bin/python tests/test_docs.py`"
    )


# --- routes, errors, commands -----------------------------------------------------------------


def plain(path: str) -> str:
    """A path whose parameters have no names, and without a trailing full stop."""
    return re.sub(r"\{[^}]*\}", "{}", path).rstrip(".")


async def test_every_route_is_documented_and_nothing_else(server):
    async with httpx.AsyncClient(base_url=server.url) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    served = {(verb.upper(), plain(path)) for path, verbs in paths.items() for verb in verbs}
    pages = [page for page in PAGES if page.parent != DOCS / "adr"]
    written = {(m[1], plain(m[2])) for page in pages for m in ROUTE.finditer(text(page))}
    missing = sorted(served - written)
    shapes = "|".join(re.escape(f"{v} {p}").replace(r"\{\}", "[^/]+") for v, p in served)
    ours = {f"{verb} {path}" for verb, path in written if path.startswith("/v1")}
    invented = sorted(route for route in ours if not re.fullmatch(shapes, route))
    assert not missing, f"not documented: {missing}"
    assert not invented, f"documented, but not served: {invented}"


def subclasses(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_error_code_is_documented():
    importlib.import_module("lantern.app")  # so that every capability's errors are defined
    base = importlib.import_module("lantern.core.errors").LanternError
    facts = {(kind.status, kind.code) for kind in subclasses(base)}  # type: ignore[attr-defined]
    page = text(DOCS / "errors.md")
    rows = {(s, c) for s, c in facts if f"| {s} | `{c}` |" in page or f"| `{c}` |" in page}
    assert not facts - rows, f"docs/errors.md lacks rows for {sorted(facts - rows)}"


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Leaves of the command tree: `lantern keys create` and its object."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        if not child.hidden:
            yield from commands(child, f"{path} {name}")


def test_every_command_and_option_is_documented():
    typer = importlib.import_module("typer")
    root = typer.main.get_command(importlib.import_module("lantern.cli").app)
    parts = re.split(r"^#+ `(lantern[^`]*)`.*$", text(DOCS / "cli.md"), flags=re.MULTILINE)
    common, sections = parts[0], dict(zip(parts[1::2], parts[2::2], strict=True))
    missing = [p.opts[0] for p in root.params if p.opts[0] not in common]
    for path, command in commands(root, "lantern"):
        if path not in sections:
            missing.append(path)
            continue
        options = {o for p in command.params for o in p.opts if o.startswith("--")} - {"--help"}
        told = set(re.findall(r"--[a-z-]+", common + sections[path]))
        missing += [f"{path} {option}" for option in sorted(options - told)]
    assert not missing, "\n".join(missing)


# --- decision records and links ---------------------------------------------------------------


@pytest.mark.parametrize("path", ADRS, ids=lambda path: path.stem)
def test_a_decision_record_is_one_page_with_five_headings(path):
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+", path.stem)
    assert text(path).startswith(f"# {path.stem[:4]}: ")
    assert re.findall(r"^## (.+)$", text(path), re.MULTILINE) == HEADINGS
    assert len(text(path).splitlines()) <= MAX_ADR_LINES


def test_decision_records_are_numbered_without_gaps():
    assert [int(path.stem[:4]) for path in ADRS] == list(range(1, len(ADRS) + 1))


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as the usual Markdown viewers make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", [*PAGES, *TOP], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(page):
    broken = []
    for match in LINK.finditer(FENCE.sub("", text(page))):
        target, _, anchor = (match[1] or match[2]).partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / target) if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(match.group())
    assert not broken


def test_code_cites_decision_records_that_exist():
    known = {path.stem[:4] for path in ADRS}
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.sql")]
    cited = {(n, p.name) for p in sources for n in re.findall(r"docs/adr/(\d{4})", text(p))}
    assert not [(number, name) for number, name in cited if number not in known]


# --- examples ---------------------------------------------------------------------------------


@dataclass
class Example:
    """A block to execute and what its output must show."""

    line: int
    language: str
    body: str
    expect: list[str] = field(default_factory=list)


def examples(page: Path) -> list[Example]:
    found: list[Example] = []
    previous: Example | None = None
    for match in FENCE.finditer(text(page)):
        words = match["info"].split()
        if "run" in words[1:]:
            previous = Example(text(page)[: match.start()].count("\n") + 1, words[0], match["body"])
            found.append(previous)
        else:
            if previous and words == ["text", "expect"]:
                previous.expect = [line.strip() for line in match["body"].splitlines()]
            previous = None
    return found


def lacking(expect: list[str], output: str) -> str | None:
    """The first expected line that the output does not show in its turn."""
    lines = iter(line.strip() for line in output.splitlines())
    for wanted in expect:
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("...")))
        if wanted and wanted != "..." and not any(pattern.fullmatch(line) for line in lines):
            return wanted
    return None


async def execute(example: Example, folder: Path, env: dict[str, str]) -> tuple[int | None, str]:
    """Exit code (None: not done in time) and output of one block."""
    if example.language == "bash":
        state = folder / ".variables"
        before = f"set -a; [ ! -e {state} ] || . {state}\n"
        script = f"{before}{example.body}\nexport -p > {state}\n"
        command = ["bash", "-euo", "pipefail", "-c", script]
    else:
        (folder / "example.py").write_text(example.body, encoding="utf-8")
        command = [sys.executable, "example.py"]
    child = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=env,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(child.communicate(), SECONDS)
    except TimeoutError:
        child.kill()
        await child.wait()
        return None, f"not done after {SECONDS} s"
    return child.returncode, output.decode(errors="replace")


@pytest.mark.parametrize(
    "page", [p for p in PAGES if examples(p)], ids=lambda path: str(path.relative_to(ROOT))
)
async def test_examples_run(page, server, tmp_path):
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    env = os.environ | {
        "LANTERN_URL": server.url,
        "LANTERN_KEY": server.key,
        "LANTERN_BASE_URL": server.url,  # as the client library reads them
        "LANTERN_API_KEY": server.key,
        "LANTERN_DATABASE_URL": server.app.settings.database_url,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for example in examples(page):
        code, output = await execute(example, tmp_path, env)
        where = f"{page.relative_to(ROOT)}:{example.line}"
        assert code == 0, f"{where} exits with {code}:\n{output}"
        missing = lacking(example.expect, output)
        assert missing is None, f"{where} does not show {missing!r}:\n{output}"


if __name__ == "__main__":
    page = DOCS / "operating.md"
    page.write_text(SETTINGS.sub(lambda m: m[1] + settings_tables() + m[2], text(page)))
