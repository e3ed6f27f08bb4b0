"""`lantern agents`: named settings that runs execute under."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lantern import agents
from lantern.cli import common, options
from lantern.core.db import Database
from lantern.core.web import Web
from lantern.llm import Models
from lantern.settings import Settings

app = options.group("Create, list, show and delete agents.")
COMMANDS = {"agents": app}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The agent.")]


class Privacy(StrEnum):
    """Which models may see what the agent reads."""

    standard = "standard"
    strict = "strict"
    local = "local"


@app.command("create")
def create(  # noqa: PLR0913 - one parameter for each option
    name: Annotated[str, typer.Option("--name", help="Small letters, digits and dashes.")],
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    model: Annotated[str, typer.Option("--model", help="A model's name, or auto.")] = "auto",
    system_prompt: Annotated[str, typer.Option("--system-prompt", help="Its instructions.")] = "",
    system_prompt_file: Annotated[
        Path | None, typer.Option("--system-prompt-file", help="Instructions from a file.")
    ] = None,
    privacy: Annotated[
        Privacy, typer.Option("--privacy-level", help="Which models may see its input.")
    ] = Privacy.standard,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Create an agent."""
    if system_prompt_file is not None:
        system_prompt = system_prompt_file.read_text(encoding="utf-8")
    body = agents.AgentCreate(
        name=name,
        description=description,
        model=model,
        system_prompt=system_prompt,
        privacy_level=privacy.value,
    )
    settings = options.load(data_dir, config)

    async def work(db: Database) -> dict[str, Any]:
        models = await _models(settings)
        async with db.transaction(tenant) as tx:
            return await agents.create_as_operator(tx, tenant, body, models)

    _show(common.with_database(settings, work, tenant), json)


@app.command("list")
def table(
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """List agents, newest first (the newest 1,000)."""

    async def work(db: Database) -> list[dict[str, Any]]:
        async with db.transaction(tenant) as tx:
            return await agents.table_as_operator(tx, 1000)

    found = common.with_database(options.load(data_dir, config), work, tenant)
    if json:
        common.print_json({"agents": found})
    else:
        common.print_table(["name", "model", "status", "created_at", "description"], found)


@app.command("get")
def get(
    name: Name,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Show an agent."""

    async def work(db: Database) -> dict[str, Any]:
        async with db.transaction(tenant) as tx:
            return await agents.get(tx, name)

    _show(common.with_database(options.load(data_dir, config), work, tenant), json)


@app.command("delete")
def delete(
    name: Name,
    tenant: options.Tenant = common.FIRST_TENANT,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Archive an agent: its name is free again, its runs stay readable."""

    async def work(db: Database) -> None:
        async with db.transaction(tenant) as tx:
            await agents.archive_as_operator(tx, tenant, name)

    common.with_database(options.load(data_dir, config), work, tenant)
    print(f"deleted {name}")


async def _models(settings: Settings) -> Models:
    """The table of models, to check a name against; no call is made with it."""
    web = Web(settings.net)
    await web.open()
    try:
        return await Models.open(settings, web)
    finally:
        await web.close()


def _show(agent: dict[str, Any], json: bool) -> None:
    if json:
        common.print_json(agent)
    else:
        common.print_fields(agent)
