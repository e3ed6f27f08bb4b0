"""What is measured: how each target is started, who belongs to it, how its API is spoken.

A new target is a class here, an entry in TARGETS and, for a new API, an adapter.
"""

import json
import pathlib
import subprocess
import sys
import time

import machine
import peers

HERE = pathlib.Path(__file__).resolve().parent
PRODUCT = HERE.parents[1] / ".venv" / "bin" / "lantern"


class Target:
    """One server process on the target's core, listening on a port of its own."""

    adapter = "openai"
    ready = "/ok"
    peer: str | None = None  # its environment, see peers.py
    server = True  # start-up and idle figures make sense

    def __init__(self, name: str, work: pathlib.Path, fake: str, log: pathlib.Path):
        self.name, self.work, self.fake, self.log = name, work, fake, log
        self.port = machine.free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.adapter_args: dict = {}
        self.process: subprocess.Popen | None = None
        self.bin = peers.ensure(self.peer) if self.peer else pathlib.Path(sys.executable).parent

    def command(self) -> list:
        raise NotImplementedError

    def env(self) -> dict:
        return {}

    def uvicorn(self, app: str) -> list:
        quiet = ["--log-level", "warning", "--no-access-log"]
        return [self.bin / "uvicorn", app, "--host", "127.0.0.1", "--port", self.port, *quiet]

    def prepare(self) -> None:
        """Once, before the first start."""

    def start(self) -> float:
        """Seconds from exec until it answers on its health address."""
        env = machine.environment(FAKE=self.fake, **self.env())
        began = time.monotonic()
        self.process = machine.start(
            self.command(), machine.TARGET_CPU, self.log, cwd=HERE / "apps", env=env
        )
        machine.wait_http(self.base + self.ready, self.process)
        return time.monotonic() - began

    def stop(self) -> None:
        machine.stop(self.process)

    def close(self) -> None:
        """Once, at the end: everything `prepare` began."""
        self.stop()

    def database(self) -> list[int]:
        """Process ids of its Postgres."""
        return []

    def pids(self) -> list[int]:
        return [self.process.pid, *self.database()] if self.process else []


class Fake(Target):
    """The client straight at the model: the harness's own share."""

    server = False

    def start(self) -> float:
        self.base = self.fake
        return 0.0


class Floor(Target):
    """Bare Starlette and aiohttp, see apps/floor.py."""

    server = False

    def command(self) -> list:
        return self.uvicorn("floor:app")

    def env(self) -> dict:
        return {"MODE": self.name.rsplit("-", 1)[1]}


class Twostep(Floor):
    """The product's two requests in memory, see apps/twostep.py."""

    adapter = "lantern"

    def command(self) -> list:
        return self.uvicorn("twostep:app")


class Agno(Target):
    """AgentOS with Postgres on the same core, durability settings untouched."""

    adapter, ready, peer = "agno", "/health", "agno"
    postgres: subprocess.Popen | None = None

    def prepare(self) -> None:
        command = [sys.executable, HERE / "peer_postgres.py", self.work / "postgres"]
        with self.log.open("ab") as log:
            self.postgres = subprocess.Popen(
                machine.pinned(command, machine.TARGET_CPU),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=machine.environment(),
            )
        answer = self.postgres.stdout.readline()
        if not answer:
            raise machine.Failed(f"no Postgres for {self.name}; see {self.log}")
        self.server_info = json.loads(answer)

    def command(self) -> list:
        return self.uvicorn("agno_app:app")

    def env(self) -> dict:
        dsn = self.server_info["dsn"].split("://", 1)[1]
        return {"DB": f"postgresql+psycopg://{dsn}", "AGNO_TELEMETRY": "false"}

    def database(self) -> list[int]:
        return [self.server_info["pid"]]

    def close(self) -> None:
        super().close()
        if self.postgres:
            self.postgres.stdin.close()
            self.postgres.wait(30)


class Litellm(Target):
    """The proxy: one worker, no database, no callbacks."""

    ready, peer = "/health/liveliness", "litellm"

    def prepare(self) -> None:
        self.adapter_args = {"key": "sk-bench-7c1f0e9a5d3b48628f04c1aa97d2e6b5"}

    def command(self) -> list:
        where = ["--config", "litellm.yaml", "--host", "127.0.0.1", "--port", self.port]
        return [self.bin / "litellm", *where, "--num_workers", 1]

    def env(self) -> dict:
        return {
            "BENCH_KEY": self.adapter_args["key"],
            "FAKE_V1": self.fake + "/v1",
            "LITELLM_TELEMETRY": "False",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }


class Lantern(Target):
    """The product as a user starts it: embedded Postgres, fsync on, one process."""

    adapter, ready = "lantern", "/healthz"

    def prepare(self) -> None:
        self.data, self.config = self.work / "data", self.work / "lantern.toml"
        # The silence of the model is the scenario, not a fault: nobody gives up on it here.
        self.config.write_text(
            f'[[models]]\nname = "fake"\nprotocol = "openai"\nbase_url = "{self.fake}/v1"\n'
            "self_hosted = true\nfirst_token_timeout = 600\n"
        )
        where = ["--data-dir", self.data, "--config", self.config]
        self.where = where
        create = [PRODUCT, "keys", "create", "--name", "bench", "--limit", "plan=off", "--json"]
        done = subprocess.run(
            [*map(str, (*create, *where))], capture_output=True, text=True, cwd=self.work
        )
        if done.returncode:
            raise machine.Failed(f"no key: {done.stdout}{done.stderr}")
        self.adapter_args = {"key": json.loads(done.stdout)["key"]}
        self.start()  # the measured starts find the data directory as a first start leaves it
        self.stop()

    def command(self) -> list:
        return [PRODUCT, "serve", "--port", self.port, *self.where]

    def database(self) -> list[int]:
        """The postmaster, a child of the server; its own children come with it."""
        below = machine.tree([self.process.pid]) if self.process else {}
        names = {pid: process.name() for pid, process in below.items()}
        return [
            pid
            for pid, process in below.items()
            if names[pid] == "postgres" and names.get(process.ppid()) != "postgres"
        ]


DEFAULT = [
    "fake",
    "floor-aiohttp-batch",
    "floor-aiohttp-sse",
    "floor-twostep",
    "lantern",
    "agno-pg",
]
TARGETS = {
    "fake": Fake,
    "floor-aiohttp-batch": Floor,
    "floor-aiohttp-sse": Floor,
    "floor-twostep": Twostep,
    "lantern": Lantern,
    "agno-pg": Agno,
    "litellm": Litellm,
}
