"""The rules of docs/architecture.md that neither ruff nor import-linter can say."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "lantern"
FILES = sorted(SRC.rglob("*.py"))
SHIPPED = [
    p for folder in ("src", "clients/python/src") for p in sorted((ROOT / folder).rglob("*.py"))
]
FOUNDATION = {"core", "gate"}
ROUTES = {"api", "alias"}  # the files that hold routes; app.py mounts them

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef

# Only what cannot be prose: a sentence may say "Select" or "update", not "update x set".
SQL = re.compile(
    r"\binsert\s+into\s+\w|\bdelete\s+from\s+\w"
    r"|\bupdate\s+[\w.]+\s+(as\s+\w+\s+|\w\s+)?set\b"
    r"|^\s*(?-i:select|SELECT)\s.+\sfrom\s+\w|^\s*(?-i:select|SELECT)\s+(\*\s+from\s+)?[\w.]+\("
    r"|^\s*with\s+\w+\s+as\s*\(|^\s*(create|alter|drop)\s+(table|role|index)\b",
    re.IGNORECASE | re.DOTALL,
)

# Spelled in pieces so that this file does not match itself.
FOREIGN = re.compile(
    "|".join(
        [
            r"\bpypi" + r"\.org",
            r"python" + r"hosted\.org",
            r"registry\.npm" + r"js",
            r"extra-index" + r"-url|--index" + r"-url[ =]",
            r"arti" + r"factory|/api/" + r"pypi/",
            r"(?<![\w.$}*-])/wo" + r"rk/",
            r"(?<![\w.$}*-])/ro" + r"ot/",
            r"(?<![\w.$}*-])/tmp/(pl" + r"an|bash_)",
            r"(?<![\w.$}*-])/ho" + r"me/\w",
        ]
    )
)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, nodes: ast.AST | None = None) -> Iterator[tuple[str, int]]:
    """Dotted names that a file imports, with their lines; relative ones made absolute."""
    package = ("lantern", *path.relative_to(SRC).parent.parts) if path.is_relative_to(SRC) else ()
    for node in ast.walk(nodes or tree(path)):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)


def is_module(parts: list[str]) -> bool:
    target = SRC.joinpath(*parts[1:3])
    return target.with_suffix(".py").exists() or target.is_dir()


def text_files() -> Iterator[Path]:
    """What belongs to the repository: tracked files and new ones that are not ignored."""
    git = shutil.which("git")
    listed = git and subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed and listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:  # an unpacked archive has no .git
        paths = [p for p in ROOT.rglob("*") if not any(q.startswith(".venv") for q in p.parts)]
    for path in paths:
        if path.is_file() and b"\0" not in path.read_bytes()[:8000]:
            yield path


def test_a_capability_is_used_through_its_front_door():
    """Outside its own folder only `lantern.<name>` may be imported, and its routes by app.py."""
    wrong = []
    for path in FILES:
        own = path.relative_to(SRC).parts[0]
        for name, line in imports(path):
            parts = name.split(".")
            if parts[0] != "lantern" or len(parts) < 3 or parts[1] in {own, *FOUNDATION}:
                continue
            if is_module(parts) and not (own == "app.py" and parts[2] in ROUTES):
                wrong.append(f"{path.relative_to(SRC)}:{line} -> {name}")
    assert not wrong, "\n".join(wrong)


def test_no_import_hides_inside_a_function():
    hidden = {
        f"{path.relative_to(SRC)}:{line} -> {name}"
        for path in FILES
        for function in ast.walk(tree(path))
        if isinstance(function, FUNCTION)
        for name, line in imports(path, function)
        if name.split(".")[0] == "lantern"
    }
    assert not hidden, "\n".join(sorted(hidden))


def test_the_client_library_knows_nothing_of_the_server():
    client = sorted((ROOT / "clients" / "python" / "src").rglob("*.py"))
    wrong = [
        f"{path.relative_to(ROOT)}:{line} -> {name}"
        for path in client
        for name, line in imports(path)
        if name.split(".")[0] in {"lantern", "lantern_dev"}
    ]
    assert not wrong, "\n".join(wrong)


def test_files_fit_on_a_few_screens():
    long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for path in SHIPPED
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES
    ]
    assert not long, "\n".join(long)


def test_functions_fit_on_one_screen():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines}"
        for path in SHIPPED
        for node in ast.walk(tree(path))
        if isinstance(node, FUNCTION)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_every_module_says_its_one_job():
    silent = [str(path.relative_to(ROOT)) for path in SHIPPED if not ast.get_docstring(tree(path))]
    assert not silent, "\n".join(silent)


def docstrings(module: ast.Module) -> set[int]:
    owners = (n for n in ast.walk(module) if isinstance(n, FUNCTION | ast.ClassDef | ast.Module))
    firsts = (n.body[0] for n in owners if n.body)
    return {id(first.value) for first in firsts if isinstance(first, ast.Expr)}


def strings(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Every string literal but docstrings; an f-string as one text, its values as `x`."""
    skip = docstrings(module)
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            skip |= {id(part) for part in node.values}
            parts = [p.value if isinstance(p, ast.Constant) else "x" for p in node.values]
            yield "".join(str(part) for part in parts), node.lineno
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skip
        ):
            yield node.value, node.lineno


def test_sql_stays_in_the_stores():
    """A capability's SQL is in its store.py; in core and gate each noun keeps its own."""
    stray = [
        f"{path.relative_to(SRC)}:{line}: {' '.join(text.split())[:60]}"
        for path in FILES
        if path.relative_to(SRC).parts[0] not in FOUNDATION and path.name != "store.py"
        for text, line in strings(tree(path))
        if SQL.search(text)
    ]
    assert not stray, "\n".join(stray)


def test_sql_is_recognised():
    assert SQL.search("select id from runs where id = %s")
    assert SQL.search("update runs r set status = 'failed'")
    assert SQL.search("insert into runs (id) values (%s)")
    assert SQL.search("select * from start_run(%s, %s)")
    assert SQL.search("select start_run(%s)")
    assert not SQL.search("Select a model from the table, then update the agent's settings")


def definer_functions() -> set[str]:
    """The functions that see all tenants, by the migrations."""
    scripts = sorted((SRC / "migrations").glob("*.sql"))
    functions = re.compile(
        r"create (?:or replace )?function (\w+)(?:(?!\bas \$).)*?\bsecurity definer", re.DOTALL
    )
    return {name for path in scripts for name in functions.findall(path.read_text("utf-8"))}


def test_what_crosses_tenants_is_in_its_decision_record():
    """ADR 0008 lists every SECURITY DEFINER function, and no other."""
    record = next((ROOT / "docs" / "adr").glob("0008-*.md")).read_text("utf-8")
    rows = [line.split("|")[1] for line in record.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed - {"lantern_app", "lantern_system"} == definer_functions()


def test_what_crosses_tenants_is_called_from_the_foundation():
    """From core and gate alone; the command line works for the operator of all tenants."""
    call = re.compile(rf"\b({'|'.join(sorted(definer_functions()))})\(")
    wrong = [
        f"{path.relative_to(SRC)}:{line}: {match[1]}"
        for path in FILES
        if path.relative_to(SRC).parts[0] not in {*FOUNDATION, "cli"}
        for text, line in strings(tree(path))
        if (match := call.search(text))
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_edge_speaks_http():
    """Rules and stores work the same from a route, the command line, a timer or a tool."""
    wrong = [
        f"{path.relative_to(SRC)}:{line} -> {name}"
        for path in FILES
        if path.relative_to(SRC).parts[0] not in {*FOUNDATION, "app.py", "cli"}
        and path.stem in {"__init__", "service", "store", "models", "jobs", "engine"}
        for name, line in imports(path)
        if name.split(".")[0] in {"fastapi", "starlette"}
    ]
    assert not wrong, "\n".join(wrong)


def test_locks_record_hashes_and_no_addresses():
    locks = sorted(ROOT.glob("requirements*.lock"))
    assert locks
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text, f"{lock.name} names an address"
        assert "--hash=sha256:" in text, f"{lock.name} has no hashes"
    assert not [name for name in ("uv.lock", "pylock.toml") if (ROOT / name).exists()]


def test_the_text_names_no_foreign_hosts_and_no_machine():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in text_files()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if (match := FOREIGN.search(line))
    ]
    assert not found, "\n".join(found)
