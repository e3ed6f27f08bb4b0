"""`lantern serve` and `lantern worker`: nodes of this installation.

The embedded Postgres starts in a thread while the rest of the server is imported.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lantern.cli import listener, load, options
from lantern.core import postgres
from lantern.settings import Settings

serve_app, worker_app = options.single(), options.single()
COMMANDS = {"serve": serve_app, "worker": worker_app}


@serve_app.command()
def serve(
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port; 0 picks one. [default: 8000]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=64, help="Processes. [default: 1]")
    ] = None,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Run the server until SIGTERM, which drains it; it prints its address when it is ready."""
    given: dict[str, Any] = {"host": host, "port": port, "workers": workers}
    own = {name: value for name, value in given.items() if value is not None}
    settings = options.load(data_dir, config, **({"server": own} if own else {}))
    with listener.bind(settings.server) as bound, _database(settings) as ready:
        if settings.server.workers > 1:
            supervisor = load("supervisor")
            ready.result()
            supervisor.run(settings, bound)
        else:
            server = load("server")
            ready.result()
            server.serve(settings, bound)


@worker_app.command()
def worker(data_dir: options.DataDir = None, config: options.Config = None) -> None:
    """Run a node without HTTP until SIGTERM: it takes over runs, fires timers, works off jobs."""
    settings = options.load(data_dir, config)
    with _database(settings) as ready:
        server = load("server")
        ready.result()
        server.work(settings)


@contextmanager
def _database(settings: Settings) -> Iterator["Future[postgres.Server | None]"]:
    """A share in the embedded server, on its way; the node takes one of its own later."""
    with ThreadPoolExecutor(1, "postgres") as threads:
        share: Future[postgres.Server | None] = threads.submit(_acquire, settings)
        try:
            yield share
        finally:
            if share.exception() is None and (server := share.result()):
                server.release()


def _acquire(settings: Settings) -> postgres.Server | None:
    return None if settings.database_url else postgres.acquire(settings.data_dir)
