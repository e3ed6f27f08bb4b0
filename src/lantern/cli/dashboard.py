"""`lantern dashboard`: a way in for whoever sits at the machine."""

from typing import Annotated

import typer

from lantern.cli import common, listener, options, store

app = options.group("Open the dashboard.")
COMMANDS = {"dashboard": app}


@app.command()
def link(
    tenant: Annotated[
        int | None,
        typer.Option("--tenant", min=1, help="Stays with this tenant. [default: may go to any]"),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Address of the server. [default: as the settings name it]"),
    ] = None,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Print a link that signs a browser in once; it works while the server runs."""
    settings = options.load(data_dir, config)
    where = tenant or common.FIRST_TENANT

    raw = common.with_database(
        settings, lambda db: store.sign_in_link(db, settings, where, roams=tenant is None), where
    )
    address = url.rstrip("/") if url else listener.configured(settings.server)
    made = listener.sign_in_url(address, raw)
    if json:
        minutes = settings.dashboard.link_minutes
        common.print_json({"url": made, "tenant": tenant, "expires_in_minutes": minutes})
    else:
        print(made)
