"""`lantern demo`: the product at work on this machine, in half a minute.

Two server processes share one embedded Postgres. An agent answers over bundled documents; then
the process that works on a second run is killed, and the other one goes on with it. At last that
one gives leads to the people of a pool.
"""

import json
import shlex
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from lantern import __version__, keys, settings
from lantern.cli import common, demo_routing, options, show, store
from lantern.core import postgres
from lantern.core.db import Database
from lantern.core.postgres import PostgresFailed
from lantern_dev import demo as material
from lantern_dev.demo.client import Api
from lantern_dev.demo.nodes import Server, free_port

app = options.single()
COMMANDS = {"demo": app}

AGENT = "research-agent"
PORT = 8000
KILL_AFTER_WORDS = 30
# Slow enough to be watched, and to be killed in the middle.
CONFIG = '[[models]]\nname = "builtin"\nprotocol = "builtin"\npace_ms = 45\n'


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the server up and print its address and key.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Of the server that stays. [default: 8000]"),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Keep the data here. [default: a temporary directory]"),
    ] = None,
) -> None:
    """Run an agent, kill the server in the middle of a run, watch the run go on."""
    with ExitStack() as stack:
        _Demo(stack, data_dir, free_port(port or PORT), keep).run()


class _Demo:
    """One demonstration; what it starts ends with `stack`, but for what --keep keeps."""

    def __init__(self, stack: ExitStack, data_dir: Path | None, port: int, keep: bool) -> None:
        self.stack = stack
        self.keep = keep
        self.temporary = data_dir is None
        self.data = data_dir or Path(tempfile.mkdtemp(prefix="lantern-demo-")) / "data"
        if self.temporary and not keep:
            stack.callback(_remove, self.data)
        self.data.mkdir(parents=True, exist_ok=True)
        self.config = self.data / "demo.toml"
        self.config.write_text(CONFIG)
        self.port = port

    def run(self) -> None:
        """The whole demonstration."""
        began = time.monotonic()
        print(f"Lantern {__version__} with an embedded Postgres in {self.data}", flush=True)
        first = self._start(free_port())
        first.wait_ready()
        key = self._tenant_and_key()
        print(f"ready after {time.monotonic() - began:.1f} s\n")
        api = Api(first.url, key)
        prompt = "Answer from the documents, and quote them."
        api.call("POST", "/v1/agents", {"name": AGENT, "system_prompt": prompt})
        second = self._start(self.port, stays=self.keep)
        self._first_run(api)
        second.wait_ready()
        self._second_run(first, second, key)
        _head(f"3. {demo_routing.LEADS} new leads: the people of a pool take turns")
        demo_routing.show(Api(second.url, key))
        self._farewell(second, key)

    def _start(self, port: int, stays: bool = False) -> Server:
        server = Server(self.data, self.config, port)
        undo = self.stack.enter_context(ExitStack())
        undo.callback(server.stop)
        if stays:
            self.stays = undo
        return server

    def _tenant_and_key(self) -> str:
        async def work(db: Database) -> str:
            tenant = await store.create_tenant(db, "demo", "team")
            key = keys.OperatorKey("demo", ["admin"], ["*"])
            async with db.transaction(tenant) as tx:
                return str((await keys.create_as_operator(tx, tenant, key))["key"])

        wanted = settings.load(self.config, data_dir=self.data, database_url=None)
        return common.with_database(wanted, work)

    # ---------------------------------------------------------------- the two runs
    def _first_run(self, api: Api) -> None:
        titles = ", ".join(document["title"] for document in material.documents())
        _head(f"1. {AGENT} reads {len(material.documents())} documents ({titles})")
        run_id = self._ask(api, material.QUESTIONS[0])
        teller = _Teller()
        for event in api.stream(run_id):
            teller.tell(event)
        run = api.call("GET", f"/v1/runs/{run_id}")
        print("\n" + "\n".join(show.summary(run)))
        print(f"({run['output']['data']['notice']})")
        print("\nThe same with curl, on a server of yours:")
        print(_curl())

    def _second_run(self, first: Server, second: Server, key: str) -> None:
        _head(f"2. process {first.pid} works on the next run, {second.pid} shows its stream")
        run_id = self._ask(Api(first.url, key), material.QUESTIONS[1])
        reader = Api(second.url, key)
        teller = _Teller()
        killed_at, back_at = 0.0, 0.0
        for event in reader.stream(run_id):
            back_at = back_at or (time.monotonic() if killed_at else 0.0)
            teller.tell(event)
            if not killed_at and teller.step == "write" and teller.words >= KILL_AFTER_WORDS:
                first.kill()
                killed_at = time.monotonic()
                print(f"\n\n    kill -9 {first.pid}: the process that did the work is gone\n")
        run = reader.call("GET", f"/v1/runs/{run_id}")
        print("\n" + "\n".join(show.summary(run)))
        plan = run["steps"][0]["tokens"]
        print(
            f"\nProcess {second.pid} took the run over {back_at - killed_at:.1f} s after the kill; the"
            f" stream went on by itself.\nStep `plan` had ended before: it ran"
            f" {_times(teller.starts['plan'])}, its {plan['input']} + {plan['output']} tokens were"
            " bought once.\nOnly the step that was cut off began again."
        )

    def _ask(self, api: Api, question: str) -> str:
        print(f"Question: {question}\n", flush=True)
        given = {"question": question, "documents": material.documents()}
        return str(api.call("POST", f"/v1/agents/{AGENT}/runs", {"input": given})["run_id"])

    # ---------------------------------------------------------------- the end
    def _farewell(self, server: Server, key: str) -> None:
        _head("4. where to look next")
        if self.keep:
            self.stays.pop_all()  # it outlives this command
            print(f"server   export LANTERN_URL={server.url}   (docs: {server.url}/docs)")
            print(f"key      export LANTERN_KEY={key}")
            print(f"look     lantern dashboard link --data-dir {self.data} --url {server.url}")
            print(f"data     {self.data}\nend it   kill {server.pid}")
        else:
            print("lantern serve               a server of your own; its link opens the dashboard")
            print("lantern demo --keep         this demo, and its server stays")
        print("lantern.toml, [[models]]    a language model instead of quotes (docs/models.md)")
        print("docs/routing.md             pools, turns, hours; then docs/credits.md, docs/logs.md")


class _Teller:
    """Prints events as a person reads them; lines break between words."""

    def __init__(self) -> None:
        self.step = ""
        self.words = 0
        self.starts: dict[str, int] = {}
        self._width = min(100, shutil.get_terminal_size().columns)
        self._column = 0

    def tell(self, event: dict[str, Any]) -> None:
        """Print one event."""
        match event["type"]:
            case "token":
                self.words += 1
                self._write(event["content"])
            case "step.start":
                self.step, self.words = event["step"], 0
                self.starts[self.step] = self.starts.get(self.step, 0) + 1
                self._line(f"[{self.step}]")
            case "step.restart":
                self.words = 0
                self._line(f"[{event['step']}, attempt {event['attempt']} on another node]")
            case "step.complete":
                self._line(f"[{event['step']} done in {show.seconds(event['duration_ms'])}]\n")

    def _write(self, text: str) -> None:
        for line in text.splitlines(keepends=True):
            fits = self._column + len(line) <= self._width or not line.startswith(" ")
            piece = line if fits else "\n" + line.lstrip()
            sys.stdout.write(piece)
            _, broken, last = piece.rpartition("\n")
            self._column = len(last) + (0 if broken else self._column)
        sys.stdout.flush()

    def _line(self, text: str) -> None:
        print(f"\n{text}" if self._column else text, flush=True)
        self._column = 0


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _head(text: str) -> None:
    typer.secho(f"\n{text}", bold=True)


def _curl() -> str:
    given = {
        "question": "Who leads Acme?",
        "documents": [{"title": "A", "text": "Eve leads Acme."}],
    }
    body = shlex.quote(json.dumps({"input": given}))
    return (
        f'  curl -sS $LANTERN_URL/v1/agents/{AGENT}/runs -H "Authorization: Bearer $LANTERN_KEY" \\\n'
        f"    -H 'Content-Type: application/json' -d {body}\n"
        '  curl -N $LANTERN_URL/v1/runs/RUN_ID/stream -H "Authorization: Bearer $LANTERN_KEY"'
    )


def _remove(data: Path) -> None:
    with suppress(PostgresFailed):
        postgres.remove(data)
    shutil.rmtree(data.parent, ignore_errors=True)
