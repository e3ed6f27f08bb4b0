"""Agents: the list, one agent with its runs, made, changed, tried out, archived."""

from datetime import timedelta
from typing import Any

import orjson
from starlette.responses import Response

from lantern import agents, runs
from lantern.core import clock
from lantern.core.errors import BadRequest, LanternError
from lantern.dashboard import forms, render
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View
from lantern.llm import CAPABILITIES, Models

PER_PAGE = 50
DAYS = 7
RUNS_SHOWN = 15
PRIVACY = (
    ("standard", "standard: any model"),
    ("local", "local: models on your own machines alone"),
    ("strict", "strict: stored; no run starts in this version"),
)
_NUMBERS = (
    "max_steps",
    "max_seconds",
    "max_tokens_per_step",
    "max_cost_per_run",
    "max_cost_per_day",
)


@page("/agents")
async def listed(view: View) -> Response:
    """Agents in force, with what they did lately."""
    word, number = view.query("q"), view.number("page", 1)
    if word:
        found = await agents.find(view.call, word[:100], PER_PAGE)
        total = len(found)
    else:
        found, total = await agents.table(view.call, PER_PAGE, (number - 1) * PER_PAGE)
    lately = await runs.of_agents(view.tx, [a["id"] for a in found], _since())
    more = not word and number * PER_PAGE < total
    return view.page(
        "agents/list.html", agents=found, lately=lately, total=total, number=number, more=more
    )


@page("/agents/new", "write")
async def new(view: View) -> Response:
    """The form of a new agent."""
    return _form(view, None, {"model": "auto", "privacy_level": "standard"})


@action("/agents/new")
async def create(view: View) -> Response:
    """Make an agent."""
    try:
        body = forms.read(agents.AgentCreate, _typed(view) | {"name": view.field("name").strip()})
        made = await agents.create(view.call, body, _models(view))
    except LanternError as error:
        return _form(view, None, _draft(view), error)
    return view.go(f"/agents/{made['name']}", f"Agent {made['name']} is there: try it")


@page("/agents/{name}")
async def shown(view: View) -> Response:
    """One agent: its settings, its runs, a field to try it."""
    return await _shown(view, {}, "")


@page("/agents/{name}/edit", "write")
async def edit(view: View) -> Response:
    """The form with the agent's settings."""
    agent = await _agent(view)
    rails = agent["guardrails"]
    lists = {name: "\n".join(agent[name]) for name in ("connectors", "surfaces")}
    labels = "\n".join(f"{k}={v}" for k, v in agent["labels"].items())
    numbers = {name: "" if rails[name] is None else f"{rails[name]:g}" for name in _NUMBERS}
    return _form(view, agent, {**agent, **rails, **lists, **numbers, "labels": labels})


@action("/agents/{name}/edit")
async def change(view: View) -> Response:
    """Change an agent: every field of the form."""
    agent = await _agent(view)
    try:
        body = forms.read(agents.AgentChange, _typed(view))
        await agents.change(view.call, agent["name"], body, _models(view))
    except LanternError as error:
        return _form(view, agent, _draft(view), error)
    return view.go(f"/agents/{agent['name']}", "Changed: it holds for the next run")


@action("/agents/{name}/status")
async def set_status(view: View) -> Response:
    """Pause an agent, or let it go on."""
    agent = await _agent(view)
    body = forms.read(agents.AgentChange, {"status": view.field("status")})
    await agents.change(view.call, agent["name"], body, _models(view))
    said = "Paused: no run starts" if body.status == "paused" else "Active again"
    return view.go(f"/agents/{agent['name']}", said)


@action("/agents/{name}/archive")
async def archive(view: View) -> Response:
    """Free the name; its runs stay."""
    agent = await _agent(view)
    await agents.archive(view.call, agent["name"])
    return view.go("/agents", f"Agent {agent['name']} is archived; its runs stay readable")


@action("/agents/{name}/runs")
async def try_it(view: View) -> Response:
    """Start a run and go to it."""
    agent, text = await _agent(view), view.field("input")
    try:
        run_id = await runs.queue(view.call, agent["name"], _input(text))
    except LanternError as error:
        return await _shown(view, forms.faults(error), text, error.status)
    view.call.after_commit.append(view.node.wake)
    return view.go(f"/runs/{run_id}")


async def _shown(view: View, errors: dict[str, str], text: str, status: int = 200) -> Response:
    agent = await _agent(view)
    wanted = runs.Wanted(agent=agent["name"])
    newest, _ = await runs.browse(view.call, wanted, None, RUNS_SHOWN)
    total = await runs.count(view.call, wanted, render.MANY + 1)
    lately = (await runs.of_agents(view.tx, [agent["id"]], _since()))[agent["id"]]
    refuses = (await agents.of_run(view.tx, agent["id"]))["refuses"]
    return view.page(
        "agents/agent.html",
        status,
        agent=agent,
        runs=newest,
        total=total,
        lately=lately,
        refuses=refuses,
        errors=errors,
        text=text,
    )


async def _agent(view: View) -> dict[str, Any]:
    name = view.arg("name")
    agent = await agents.get(view.tx, name)
    view.call.check_agent(name)
    return agent


def _form(
    view: View,
    agent: dict[str, Any] | None,
    draft: dict[str, Any],
    error: LanternError | None = None,
) -> Response:
    names = [model.name for model in _models(view).table]
    chosen = [*sorted(CAPABILITIES - {"vision"}), *names]
    if (model := draft.get("model")) and model not in chosen:
        chosen.append(model)
    errors = forms.faults(error) if error else {}
    # A fault of a guardrail is named by its path; the form has no paths.
    errors = {name.removeprefix("guardrails."): text for name, text in errors.items()}
    options = {"models": [(name, name) for name in chosen], "privacy": PRIVACY}
    status = error.status if error else 200
    return view.page("agents/form.html", status, agent=agent, draft=draft, errors=errors, **options)


def _typed(view: View) -> dict[str, Any]:
    """The form as a body of the API; an empty number is the default. Raises BadRequest."""
    rails: dict[str, Any] = {name: view.field(name).strip() or None for name in _NUMBERS}
    defaults = agents.Guardrails().model_dump()
    rails = {name: defaults[name] if text is None else text for name, text in rails.items()}
    plain = ("description", "system_prompt", "model", "privacy_level")
    return {
        **{name: view.field(name) for name in plain},
        "connectors": forms.lines(view.field("connectors")),
        "surfaces": forms.lines(view.field("surfaces")),
        "labels": forms.pairs(view.field("labels"), "labels"),
        "guardrails": {**rails, "block_pii": bool(view.field("block_pii"))},
    }


def _draft(view: View) -> dict[str, Any]:
    return {name: values[-1] for name, values in view.form.items()}


def _input(text: str) -> dict[str, Any]:
    """A JSON object, or plain words. Raises BadRequest."""
    if not text.strip():
        raise BadRequest.field("input", "is empty")
    if not text.lstrip().startswith("{"):
        return {"input": text}
    try:
        found = orjson.loads(text)
    except ValueError as error:
        raise BadRequest.field("input", f"is no JSON object: {error}") from None
    return dict(found)


def _models(view: View) -> Models:
    models: Models = view.part.models
    return models


def _since() -> Any:
    return clock.now() - timedelta(days=DAYS)
