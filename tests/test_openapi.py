"""The OpenAPI document tells the truth: every route is in it, and no call breaks its promise."""

import asyncio
import json
import os
from typing import Any

import httpx
import pytest
import schemathesis
from callers import forget_failures, make_key
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from lantern.core import http
from lantern.gate.limits import FAMILIES, Policy

# Hypothesis watches the global random numbers, and the server's thread draws some too.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
EXAMPLES = int(os.environ.get("LANTERN_FUZZ", "12"))  # of each operation and mode
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def document(server) -> dict[str, Any]:
    return dict(httpx.get(f"{server.url}/openapi.json").json())


@pytest.fixture(scope="module")
def schema(document):
    return schemathesis.openapi.from_dict(document)


@pytest.fixture(scope="module")
async def fuzzer(db):
    """A tenant of its own for what random calls leave behind."""
    row = await db.one("select create_tenant('fuzz', 'team', 1000) as id")
    key = await make_key(db, row["id"], limits=dict.fromkeys(FAMILIES, 0))
    yield {"Authorization": f"Bearer {key}"}
    await forget_failures(db)  # some calls replace the key


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_route_is_in_the_document(server, document):
    routes = {
        (method, route.path)
        for route in server.app.app.router.routes
        if getattr(route, "path", "").startswith("/v1")
        for method in route.methods
    }
    assert {(method, path) for method, path, _ in operations(document)} == routes


def test_every_route_says_what_it_needs(server):
    for route in server.app.app.router.routes:
        if getattr(route, "path", "").startswith("/v1"):
            assert isinstance(route.endpoint.policy, Policy), route.path


def test_errors_are_ours_and_422_is_not_among_them(document):
    text = json.dumps(document)
    assert "422" not in text
    assert "HTTPValidationError" not in text
    for method, path, operation in operations(document):
        body = "FlatError" if http.family(method, path) else "Error"
        for status in ("400", "401", "403", "404", "409", "413", "429", "500", "503"):
            content = operation["responses"][status]["content"]["application/json"]
            assert content["schema"] == {"$ref": f"#/components/schemas/{body}"}, (path, status)


def test_bodies_refuse_unknown_fields_in_the_document_too(document):
    schemas = document["components"]["schemas"]
    for method, path, operation in operations(document):
        if "requestBody" not in operation:
            continue
        for content in operation["requestBody"]["content"].values():
            for option in content["schema"].get("anyOf", [content["schema"]]):
                if "$ref" in option:
                    name = option["$ref"].rsplit("/", 1)[1]
                    assert schemas[name]["additionalProperties"] is False, (method, path)


def test_it_names_the_key_and_the_version(document):
    assert document["components"]["securitySchemes"]["BearerAuth"]["scheme"] == "bearer"
    assert document["security"] == [{"BearerAuth": []}]
    assert document["info"]["title"] == "Lantern"


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_random_calls_find_no_server_error(server, schema, fuzzer, mode):
    # In a thread: the model server answers on this loop.
    await asyncio.to_thread(fuzz, schema, server.url, fuzzer, mode)


def fuzz(schema: Any, url: str, headers: dict[str, str], mode: GenerationMode) -> None:
    for result in schema.get_all_operations():
        call_often(result.ok(), url, headers, mode)


def call_often(operation: Any, url: str, headers: dict[str, str], mode: GenerationMode) -> None:
    known = existing(url, headers)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def call(case: Any, real: bool) -> None:
        if real:
            case.path_parameters.update(
                {k: known[k] for k in case.path_parameters or {} if k in known}
            )
        response = case.call(base_url=url, headers=headers, timeout=30)
        case.validate_response(response, checks=CHECKS)

    call()


def existing(url: str, headers: dict[str, str]) -> dict[str, str]:
    """An agent, a finished run, a key, a pool, ...: half of all calls are about something real."""
    with httpx.Client(base_url=url, headers=headers, verify=False) as client:
        # Anew each time: earlier calls may have paused it, or asked for what refuses runs.
        client.delete("/v1/agents/known")
        made = client.post("/v1/agents", json={"name": "known", "model": "small"})
        assert made.status_code == 201, made.text
        began = client.post("/v1/agents/known/runs", json={"input": {"q": "x"}})
        assert began.status_code == 201, began.text
        run = began.json()["run_id"]
        client.get(f"/v1/runs/{run}/stream")
        key = client.post("/v1/api-keys", json={"name": "known"}).json()["key"]["id"]
        # Random prices and caps would leave nothing but 402 to what costs credits.
        for cap in client.get("/v1/credits/caps?per_page=100").json()["caps"]:
            client.delete(f"/v1/credits/caps/{cap['id']}")
        for row in client.get("/v1/credits/tariff").json()["tariff"]:
            if row["own"]:
                client.delete(f"/v1/credits/tariff/{row['operation']}/{row['item']}")
        cap = {"scope": "tag", "subject": f"run={run}", "period": "total", "credits": 1}
        receipt = client.get("/v1/credits/receipts").json()["receipts"][0]
        return {
            "name": "known",
            "run_id": run,
            "key_id": key,
            "cap_id": client.post("/v1/credits/caps", json=cap).json()["id"],
            "receipt_id": receipt["id"],
            "operation": "routing.assign",
            "item": "assign",
            **existing_pool(client),
        }


def existing_pool(client: httpx.Client) -> dict[str, str]:
    """A pool, a member of it and an assignment to that member."""
    client.delete("/v1/routing/pools/known")
    pool = {"pool": "known", "members": [{"user_id": "someone"}]}
    assert client.post("/v1/routing/pools", json=pool).status_code == 201
    lead = {"object": "lead", "sf_id": "lead-1", "pool": "known", "explain": True}
    made = client.post("/v1/routing/assign", json=lead).json()
    return {"pool": "known", "user_id": "someone", "assignment_id": made["assignment_id"]}
