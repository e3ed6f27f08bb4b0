"""`lantern migrate`: the database's tables as this version wants them."""

from lantern.cli import common, options
from lantern.core import home, jobs, migrate, postgres
from lantern.settings import Settings

app = options.single()
COMMANDS = {"migrate": app}


@app.command()
def run(
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Apply what the database lacks, once, however many call it. Nodes may keep running."""
    settings = options.load(data_dir, config)
    common.quiet(settings)
    applied = _apply(settings)
    if json:
        common.print_json({"applied": applied})
    else:
        print("\n".join(f"applied {name}" for name in applied) or "nothing to do")


def _apply(settings: Settings) -> list[str]:
    if settings.database_url:
        return _migrate(home.Home(settings.database_url, None))
    server = postgres.acquire(settings.data_dir)
    try:
        return _migrate(home.Home(server.dsn, server))
    finally:
        server.release()


def _migrate(place: home.Home) -> list[str]:
    applied = migrate.apply(place.dsn)
    if jobs.migrate_jobs(place.dsn):
        applied.append("job queue")
    return applied
