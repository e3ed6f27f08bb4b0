"""What holds for every page, read from the files and run from the examples."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from lantern.dashboard import pages, render
from lantern.dashboard.nav import NAV
from lantern.dashboard.routes import ROUTES

from .browser import signed_in

ROOT = Path(__file__).parents[2] / "src" / "lantern" / "dashboard"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
SNIPPETS = sorted(path.name for path in (ROOT / "snippets").iterdir())

# What the policy of the page forbids, and what would work only without it.
FORBIDDEN = re.compile(
    r"\son[a-z]+\s*=|\sstyle\s*=|<style|hx-on|hx-live|\bjs:|javascript:|<script(?![^>]*\ssrc=)"
    r"|hx-trigger=\"[^\"]*\[|https?://(?!www\.w3\.org)",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_a_script_a_style_or_a_foreign_address(path):
    found = [
        f"{number}: {match.group()}"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (match := FORBIDDEN.search(line))
    ]
    assert not found


def test_what_is_forbidden_is_recognised():
    for text in (
        '<a onclick="x()">', '<p style="a">', "<script>x</script>", '<a hx-on:click="x">',
        '<a href="javascript:x">', "hx-vals='js:{a: 1}'", 'hx-trigger="keyup[key==1]"',
        "https://cdn.example/x.js",
    ):  # fmt: skip
        assert FORBIDDEN.search(text), text
    assert not FORBIDDEN.search('<script src="x.js" defer></script><td class="on">')


def test_scripts_make_no_code_of_text():
    for path in (ROOT / "static").glob("*.js"):
        assert not re.search(r"\beval\(|new Function|innerHTML|document\.write", path.read_text())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_template_is_well_formed(path):
    render.environment().get_template(str(path.relative_to(ROOT / "templates")))


def test_every_icon_is_drawn():
    drawn = set(re.findall(r'<symbol id="([\w-]+)"', (ROOT / "static" / "icons.svg").read_text()))
    asked = {
        name for path in TEMPLATES for name in re.findall(r'icon\("([\w-]+)"', path.read_text())
    }
    asked |= {entry.icon for _, entries in NAV for entry in entries}
    assert asked <= drawn, asked - drawn


def test_every_entry_of_the_bar_leads_to_a_page_and_has_a_key_of_its_own():
    entries = [entry for _, group in NAV for entry in group]
    served = {route.path for route in ROUTES if route.kind == "page"}
    assert {entry.path for entry in entries} <= served
    assert len({entry.key for entry in entries}) == len(entries)


def test_every_page_module_is_imported():
    there = {path.stem for path in (ROOT / "pages").glob("*.py")} - {"__init__"}
    assert there == set(pages.__all__)


def test_every_behaviour_that_a_page_names_exists():
    script = (ROOT / "static" / "app.js").read_text()
    block = script[script.index("const clicks") : script.index("document.addEventListener")]
    known = set(re.findall(r"^  (?:async )?(\w+)(?:\(|:)", block, re.MULTILINE))
    asked = {
        name for path in TEMPLATES for name in re.findall(r'data-do="(\w+)"', path.read_text())
    }
    assert asked <= known, asked - known


def test_both_languages_show_every_example():
    names = {name.partition(".")[0] for name in SNIPPETS}
    assert {f"{name}.{kind}" for name in names for kind in ("curl", "python")} == set(SNIPPETS)
    asked = {
        name
        for path in TEMPLATES
        for name in re.findall(r'parts\.(?:empty\([^)]*"|snippet\(")([\w-]+)"\)', path.read_text())
    }
    assert names & asked


@pytest.mark.parametrize("name", SNIPPETS)
async def test_examples_of_empty_pages_run_twice_on_a_new_tenant(name, server, tenant, tmp_path):
    text = render.snippet(name, server.url)
    command = ["bash", "-euo", "pipefail", "-c", text]
    if name.endswith(".python"):
        (tmp_path / "example.py").write_text(text, encoding="utf-8")
        command = [sys.executable, str(tmp_path / "example.py")]
    for _ in range(2):
        child = await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | {"LANTERN_KEY": tenant.key},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(child.communicate(), 30)
        assert child.returncode == 0, output.decode()
        assert output, "it shows nothing"
        refused = re.search(rb'"code":"(?!conflict)\w+"', output)  # it is there from the first time
        assert not refused, output.decode()


async def test_every_page_of_a_new_tenant_answers(server, tenant):
    async with signed_in(server, tenant) as browser:
        for route in ROUTES:
            if route.kind == "page" and "{" not in route.path and "export" not in route.path:
                answer = await browser.get(route.path)
                assert answer.status_code == 200 or route.path.endswith("/tenants"), route.path
