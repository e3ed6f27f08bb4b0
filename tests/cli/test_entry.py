"""Before any command runs: help, usage errors, what a start imports."""

import subprocess
import sys

from cli.conftest import environment, lantern
from lantern import __version__
from lantern.cli import COMMANDS

HEAVY = ("pydantic", "psycopg", "fastapi", "aiohttp", "structlog", "rich.console", "dbos")


def test_help_lists_every_command_and_imports_none():
    script = (
        "import sys\nfrom lantern import cli\n"
        "assert cli.execute(['--help']) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    *text, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert all(any(line.strip().startswith(f"{name} ") for line in text) for name in COMMANDS)


def test_version_and_usage_errors():
    assert lantern("--version").out == f"lantern {__version__}\n"
    unknown = lantern("keyz")
    assert unknown.code == 2
    assert "'keyz'" in unknown.error
    assert "'keys'" in unknown.error, "a near name is proposed"
    alone = lantern("keys")
    assert alone.code == 2
    assert alone.err.startswith("Usage: lantern keys")
    missing = lantern("keys", "create")
    assert missing.code == 2
    assert "--name" in missing.error


def test_a_setting_that_is_wrong_is_named(tmp_path):
    wrong = lantern("migrate", env=environment(LANTERN_SERVER__PORT="99999"))
    assert wrong.code == 2
    assert wrong.error.startswith("server.port: ")
    lost = lantern("migrate", "--config", tmp_path / "none.toml")
    assert lost.code == 2
    assert str(tmp_path / "none.toml") in lost.error


def test_a_database_that_is_not_there_is_one_line_without_its_password():
    env = environment("postgresql://me:hunter2@127.0.0.1:1/x")
    refused = lantern("keys", "list", env=env)
    assert refused.code == 1
    assert "refused" in refused.error
    garbled = lantern("keys", "list", env=environment("postgres:/me:hunter2@127.0.0.1/x"))
    assert garbled.code == 1
    assert "hunter2" not in refused.err + garbled.err


def test_debug_shows_where():
    done = lantern("--debug", "keys", "list", env=environment("postgresql://me@127.0.0.1:1/x"))
    assert done.code == 1
    assert "Traceback" in done.err
