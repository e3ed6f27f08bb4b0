"""`lantern routing`: pools, assignments, and why they came out as they did."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer
from pydantic import ValidationError

from lantern import routing
from lantern.cli import common, options
from lantern.core import crm, http
from lantern.core.db import Database
from lantern.core.errors import BadRequest
from lantern.gate.auth import Call, operator

app = options.group("Pools, assignments, explanations and simulations.")
pool_app = options.group("List, show, create, change and delete pools.")
app.add_typer(pool_app, name="pools")
COMMANDS = {"routing": app}

T = TypeVar("T")
Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.")]
File = Annotated[
    Path, typer.Option("--file", "-f", help="JSON as the API takes it; - is standard input.")
]


@pool_app.command("list")
def list_pools(
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """List pools (the first 1,000 by name)."""
    found, _ = _as_operator(
        (data_dir, config), tenant, lambda call: routing.pools.table(call.tx, "", 1000, 0)
    )
    if json:
        common.print_json({"pools": found})
    else:
        common.print_table(["pool", "pool_size", "sequence", "version", "updated_at"], found)


@pool_app.command("show")
def show_pool(
    pool: Pool,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Show a pool: its members, their turns, who may be picked now, who is next."""
    _print_pool(
        _as_operator((data_dir, config), tenant, lambda call: routing.pools.show(call.tx, pool)),
        json,
    )


@pool_app.command("create")
def create_pool(
    file: File,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Create a pool from a file: {"pool", "members", "policy"}."""
    body = _body(routing.pools.PoolCreate, file)
    _print_pool(
        _as_operator((data_dir, config), tenant, lambda call: routing.pools.create(call, body)),
        json,
    )


@pool_app.command("put")
def put_pool(
    pool: Pool,
    file: File,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Replace a pool's members and policy; who stays keeps its turns."""
    body = _body(routing.pools.PoolChange, file)
    _print_pool(
        _as_operator((data_dir, config), tenant, lambda call: routing.pools.put(call, pool, body)),
        json,
    )


@pool_app.command("import")
def import_members(  # noqa: PLR0913 - one parameter for each option
    pool: Pool,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a header line.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove members who are not in the file.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Take the good rows, leave the others.")
    ] = False,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Add and change members by a CSV file."""
    rules = routing.pools.FileRules(replace, partial)
    text = file.read_text(encoding="utf-8-sig")
    made = _as_operator(
        (data_dir, config),
        tenant,
        lambda call: routing.pools.import_members(call, pool, text, rules),
    )
    common.print_json(made) if json else common.print_fields(made)


@pool_app.command("delete")
def delete_pool(
    pool: Pool,
    tenant: options.Tenant = common.FIRST_TENANT,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Delete a pool; its assignments stay readable."""
    _as_operator((data_dir, config), tenant, lambda call: routing.pools.delete(call, pool))
    print(f"deleted {pool}")


@app.command("assign")
def assign(  # noqa: PLR0913 - one parameter for each option
    pool: Pool,
    sf_id: Annotated[str, typer.Argument(metavar="ID", help="The record: any id.")],
    kind: Annotated[
        str, typer.Option("--object", help="lead, contact, opportunity or account.")
    ] = "lead",
    reason: Annotated[str | None, typer.Option("--reset", help="Reset rules: the reason.")] = None,
    top: Annotated[str | None, typer.Option("--top", help="With --reset: place at top.")] = None,
    all_users: Annotated[
        bool, typer.Option("--include-inactive", help="Do not leave inactive members out.")
    ] = False,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Give a record to the pool's next member; costs what the API costs."""
    if top and not reason:
        raise typer.BadParameter("--top needs --reset REASON")
    given: dict[str, Any] = {"object": kind, "sf_id": sf_id, "pool": pool}
    given["exclude_inactive"] = not all_users
    if reason:
        given["reset_rules"] = {"reason": reason, "place_user_at_top": top}
    body = _valid(routing.AssignRequest, given)
    settings = options.load(data_dir, config)
    charge = settings.routing.charge_pool_size == "always"

    async def work(call: Call) -> dict[str, Any]:
        made = await routing.assign(call.tx, call, body, charge_size=charge)
        return routing.told(made, explain=True) | {
            "credits_consumed": made.credits,
            "credits_remaining": call.credits,
            "cached": made.cached,
        }

    with crm.served_elsewhere(yes=settings.crm.url is not None):
        made = _as_operator((data_dir, config), tenant, work)
    common.print_json(made) if json else common.print_fields(made)


@app.command("explain")
def explain(
    assignment: Annotated[str, typer.Argument(metavar="ASSIGNMENT_ID", help="asg_...")],
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Say why somebody got a record; the decision is made again and compared."""
    told = _as_operator(
        (data_dir, config), tenant, lambda call: routing.explain(call.tx, assignment)
    )
    if json:
        common.print_json(told)
        return
    print(told["summary"])
    common.print_table(["user_id", "wait", "eligible", "reason", "picked"], told["candidates"])
    print(f"recomputed: {told['recomputed']}, agrees: {common.cell(told['agrees'])}")


@app.command("simulate")
def simulate(  # noqa: PLR0913 - one parameter for each option
    pool: Pool,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help='JSON {"members", "policy"}: the change.')
    ] = None,
    days: Annotated[int, typer.Option("--days", help="How far back.")] = 30,
    tenant: options.Tenant = common.FIRST_TENANT,
    json: options.Json = False,
    data_dir: options.DataDir = None,
    config: options.Config = None,
) -> None:
    """Say who would have got what, had the pool been different; changes nothing."""
    given = _read(file) if file else {}
    if not isinstance(given, dict):
        raise BadRequest("the file must hold a JSON object")
    body = _valid(routing.pools.Simulation, {**given, "days": days})
    told = _as_operator(
        (data_dir, config), tenant, lambda call: routing.pools.simulate(call, pool, body)
    )
    if json:
        common.print_json(told)
        return
    common.print_table(["user_id", "got", "would_get", "share", "would_share"], told["members"])
    print(f"{told['changed']} of {told['assignments']} assignments would have gone elsewhere")


def _as_operator(
    place: tuple[Path | None, Path | None], tenant: int, work: Callable[[Call], Awaitable[T]]
) -> T:
    async def inside(db: Database) -> T:
        async with db.transaction(tenant) as tx:
            return await work(operator(db, tx, tenant))

    return common.with_database(options.load(*place), inside, tenant)


def _body(model: Any, file: Path) -> Any:
    return _valid(model, _read(file))


def _read(file: Path) -> Any:
    text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"{file}: not JSON: {error}") from None


def _valid(model: Any, given: Any) -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadRequest.field(name, http.words(first)) from None


def _print_pool(found: dict[str, Any], json: bool) -> None:
    if json:
        common.print_json(found)
        return
    common.print_table(
        ["user_id", "name", "active", "weight", "turns", "eligible", "reason"], found["members"]
    )
    print("next: " + (", ".join(found["next"]) or "nobody"))
