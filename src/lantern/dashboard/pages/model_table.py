"""Models: what is configured, whether it answers, what it costs, how long it takes."""

import os
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response

from lantern import runs
from lantern.core.errors import NotFound
from lantern.dashboard.routes import action, page
from lantern.dashboard.view import View
from lantern.llm import AUTO, Model, Models

NEWEST_RUNS = 1000


@page("/settings/models", account=True)
async def listed(view: View) -> Response:
    """Every model, in order of preference."""
    models: Models = view.part.models
    times = {row["model"]: row for row in await runs.model_times(view.tx, NEWEST_RUNS)}
    rows = [_row(models, model, times.get(model.name)) for model in models.table]
    chosen = models.candidates(AUTO)[0]
    alone = all(model.protocol == "builtin" for model in models.table)
    return view.page(
        "settings/models.html", models=rows, chosen=chosen, alone=alone, newest=NEWEST_RUNS
    )


@action("/settings/models/check", account=True, tx=False)
async def check(view: View) -> Response:
    """Ask one model for a few tokens now."""
    models: Models = view.part.models
    name = view.field("model")
    model = next((m for m in models.table if m.name == name), None)
    if model is None:
        raise NotFound("No model has this name")
    found = await models.probe(model)
    return view.partial("settings/_checked.html", found=found)


def _host(url: str) -> str:
    """Host and port: `OLLAMA_HOST` may hold a name and a password too."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _row(models: Models, model: Model, times: dict[str, Any] | None) -> dict[str, Any]:
    variable = model.api_key_env
    return {
        "model": model,
        "host": _host(model.base_url),
        "variable": variable,
        "has_key": variable is None or bool(os.environ.get(variable)),
        "outcome": models.outcomes.get(model.name),
        "rests": models.rests(model),
        "times": times,
    }
