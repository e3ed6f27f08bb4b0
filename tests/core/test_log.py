"""Logs: one JSON object a line, and neither secrets nor people in them."""

import json
import signal
import subprocess
import sys

import psycopg
import pytest
from callers import caller, make_key
from servers import Process

from lantern.core import log

KEY = "lnt_" + "0aZ9" * 10 + "xyz"

PROGRAM = f"""
import logging
from lantern.core import log
from lantern.settings import LogSettings
log.configure(LogSettings(level="info"))
one = log.get("one")
one.info("start", path="/v1/agents?key={KEY}", authorization="Bearer abc", run_id="run_1")
one.debug("quiet")
try:
    raise ValueError("no good: {KEY} of ann@example.com")
except ValueError:
    one.exception("broken")
logging.getLogger("theirs").warning("their word for %s", "{KEY}")
logging.getLogger("theirs").info("their chatter")
"""


def test_what_the_process_writes_is_json_without_secrets():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert KEY not in done.stderr
    assert "ann@example.com" not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines[:2]] == ["start", "broken"]
    start, broken, theirs = lines
    assert start["path"] == "/v1/agents?key=[redacted]"
    assert start["authorization"] == "[redacted]"
    assert (start["run_id"], start["module"], start["level"]) == ("run_1", "one", "info")
    assert start["timestamp"].endswith("Z")
    assert "ValueError: no good: [redacted] of [email]" in broken["exception"]
    assert "Traceback" in broken["exception"]
    assert theirs["event"] == "their word for [redacted]"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("api_key", "anything", "[redacted]"),
        ("Authorization", "anything", "[redacted]"),
        ("token", 5, "[redacted]"),
        ("client_secret", "x", "[redacted]"),
        ("password", "x", "[redacted]"),
        ("set_cookie", "x", "[redacted]"),
        ("ticket", "tick_x", "[redacted]"),
        ("tokens_in", 5, 5),
        ("key_id", "key_1", "key_1"),
        ("url", f"http://x/?k={KEY}&z=1", "http://x/?k=[redacted]&z=1"),
        ("header", "Bearer abc.def-ghi", "[redacted]"),
        ("dsn", "postgresql://user:pa55@host/db", "postgresql[redacted]host/db"),
        ("who", "Ann <ann.lee+x@mail.example.com>", "Ann <[email]>"),
        ("count", 7, 7),
        ("nothing", None, None),
    ],
)
def test_secrets_go_by_name_and_by_value(name, value, shown):
    assert log.redact(None, "info", {"event": "e", name: value}) == {"event": "e", name: shown}


def test_the_message_itself_is_scrubbed():
    assert log.redact(None, "info", {"event": f"key {KEY}"})["event"] == "key [redacted]"


@pytest.fixture
def failing(dsn):
    """Agents of this name fail at COMMIT, with an error that quotes their row."""
    with psycopg.connect(dsn, autocommit=True) as boss:
        boss.execute("set search_path = lantern")
        boss.execute(
            "create function quote() returns trigger language plpgsql as $$ begin"
            " raise exception 'row %', new using detail = new::text; end $$"
        )
        boss.execute(
            "create constraint trigger quote after insert on agents deferrable initially deferred"
            " for each row when (new.name = 'quoted') execute function quote()"
        )
        yield "quoted"
        boss.execute("drop function quote cascade")


async def test_a_server_under_fire_logs_no_secret(dsn, db, tenant, tmp_path, fake, failing):
    """Keys in URLs, in headers, in bodies; people in prompts; a fault that quotes all of it."""
    key = await make_key(db, tenant.id)
    config = tmp_path / "lantern.toml"
    config.write_text(
        "[log]\nlevel = 'debug'\nrequests = true\n"
        f"[[models]]\nname = 'broken'\nbase_url = '{fake.url}'\nmodel = 'x:fault=401'\n"
    )
    private = "Ann Lee, ann.lee@example.com, prefers tea"
    with Process(config, dsn=dsn) as process:
        async with caller(process.url, key) as client:
            await client.get(f"/v1/agents?api_key={key}")
            await client.get(f"/v1/nope/{key}?pageToken={key}")
            await client.get(f"/v1/runs/{key}/stream?ticket={key}")
            made = await client.post("/v1/api-keys", json={"name": private})
            second = made.json()["raw_key"]
            agent = {"name": "a", "model": "broken", "system_prompt": private}
            await client.post("/v1/agents", json=agent)
            run = await client.post("/v1/agents/a/runs", json={"input": {"q": private}})
            await client.get(f"/v1/runs/{run.json()['run_id']}/stream")
            bad = {"name": failing, "system_prompt": private, "labels": {"k": key}}
            assert (await client.post("/v1/agents", json=bad)).status_code == 500
        process.process.send_signal(signal.SIGTERM)
        assert process.process.stdout
        written = process.process.stdout.read().decode()
        process.process.wait(20)
    for secret in (key, second, "ann.lee", "prefers tea", "tick_"):
        assert secret not in written, secret
    assert "request.failed" in written
    assert "P0001" in written


def test_a_log_that_cannot_be_written_holds_up_no_work():
    program = (
        "import logging, sys\n"
        "from lantern.core import log\n"
        "from lantern.settings import LogSettings\n"
        "log.configure(LogSettings())\n"
        "sys.stderr.close()\n"
        "log.get('test').warning('nobody.reads')\n"
        "logging.getLogger('other').error('nor this')\n"
        "print('done')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
