"""The operations of routing as values."""

from collections.abc import Mapping, Sequence
from typing import Any

from ._calls import Call, given, jsonable, nothing, once, path_of, query
from ._models import Page
from ._routing_models import (
    Assigned,
    AssignFields,
    Assignment,
    AssignmentFilters,
    Explanation,
    Imported,
    Member,
    MemberChanges,
    Policy,
    Pool,
    PoolMember,
    Simulated,
)

Members = Sequence[Member | Mapping[str, Any]]
Rules = Policy | Mapping[str, Any]

_POOLS = ("routing", "pools")
_ASSIGNMENTS = ("routing", "assignments")


def assign(
    record: Mapping[str, str],
    fields: AssignFields,
    idempotency_key: str | None,
    tags: Mapping[str, str] | None,
) -> Call[Assigned]:
    """POST /v1/routing/assign, always with an idempotency key."""
    headers = once(idempotency_key)
    if tags:
        headers["X-Lantern-Tags"] = _header(tags)
    body = jsonable({**record, **fields})
    return Call(
        "POST", path_of("routing", "assign"), Assigned.model_validate, body, headers=headers
    )


def create_pool(
    pool: str, members: Members, policy: Rules | None, sequence: int | None
) -> Call[Pool]:
    """POST /v1/routing/pools."""
    body = jsonable(given(pool=pool, members=_sendable(members), policy=policy, sequence=sequence))
    return Call("POST", path_of(*_POOLS), Pool.model_validate, body, headers=once())


def list_pools(q: str | None, page: int, per_page: int) -> Call[Page[Pool]]:
    """GET /v1/routing/pools, one page."""
    params = query(q=q, page=page, per_page=per_page)
    return Call("GET", path_of(*_POOLS), Page[Pool].model_validate, params=params)


def get_pool(pool: str) -> Call[Pool]:
    """GET /v1/routing/pools/{pool}."""
    return Call("GET", path_of(*_POOLS, pool), Pool.model_validate)


def put_pool(pool: str, members: Members, policy: Rules | None, version: int | None) -> Call[Pool]:
    """PUT /v1/routing/pools/{pool}."""
    body = jsonable(given(members=_sendable(members), policy=policy, version=version))
    # A second one would meet the version that the first has made, and look like a conflict.
    again = None if version is None else False
    return Call("PUT", path_of(*_POOLS, pool), Pool.model_validate, body, again=again)


def delete_pool(pool: str) -> Call[None]:
    """DELETE /v1/routing/pools/{pool}."""
    return Call("DELETE", path_of(*_POOLS, pool), nothing)


def import_members(pool: str, csv: str, mode: str, partial: bool) -> Call[Imported]:
    """POST /v1/routing/pools/{pool}/members."""
    path = path_of(*_POOLS, pool, "members")
    params = query(mode=mode, partial=partial)
    read = Imported.model_validate
    return Call("POST", path, read, {"csv": csv}, params=params, headers=once())


def change_member(pool: str, user_id: str, changes: MemberChanges) -> Call[Pool]:
    """PATCH /v1/routing/pools/{pool}/members/{user_id}."""
    path = path_of(*_POOLS, pool, "members", user_id)
    return Call("PATCH", path, Pool.model_validate, jsonable(changes))


def remove_member(pool: str, user_id: str) -> Call[None]:
    """DELETE /v1/routing/pools/{pool}/members/{user_id}."""
    return Call("DELETE", path_of(*_POOLS, pool, "members", user_id), nothing)


def simulate(
    pool: str, members: Members | None, policy: Rules | None, days: int, limit: int | None
) -> Call[Simulated]:
    """POST /v1/routing/pools/{pool}/simulate."""
    changed = None if members is None else _sendable(members)
    body = jsonable(given(members=changed, policy=policy, days=days, limit=limit))
    path = path_of(*_POOLS, pool, "simulate")
    return Call("POST", path, Simulated.model_validate, body, again=True)


def list_assignments(
    filters: AssignmentFilters, page: int, per_page: int
) -> Call[Page[Assignment]]:
    """GET /v1/routing/assignments, one page."""
    params = query(**filters, page=page, per_page=per_page)
    return Call("GET", path_of(*_ASSIGNMENTS), Page[Assignment].model_validate, params=params)


def get_assignment(assignment_id: str) -> Call[Assignment]:
    """GET /v1/routing/assignments/{assignment_id}."""
    return Call("GET", path_of(*_ASSIGNMENTS, assignment_id), _one)


def accept_assignment(assignment_id: str) -> Call[Assignment]:
    """POST /v1/routing/assignments/{assignment_id}/accept."""
    return Call("POST", path_of(*_ASSIGNMENTS, assignment_id, "accept"), _one, headers=once())


def void_assignment(assignment_id: str, reason: str | None) -> Call[Assignment]:
    """POST /v1/routing/assignments/{assignment_id}/void."""
    path = path_of(*_ASSIGNMENTS, assignment_id, "void")
    return Call("POST", path, _one, given(reason=reason), headers=once())


def explain_assignment(assignment_id: str) -> Call[Explanation]:
    """GET /v1/routing/assignments/{assignment_id}/explain."""
    path = path_of(*_ASSIGNMENTS, assignment_id, "explain")
    return Call("GET", path, Explanation.model_validate)


def _one(answer: Any) -> Assignment:
    return Assignment.model_validate(answer.get("assignment") if isinstance(answer, dict) else None)


def _sendable(members: Members) -> list[Any]:
    """What the server shows of a member beside its settings is not sent back."""
    settings = set(Member.model_fields)
    return [
        member.model_dump(mode="json", by_alias=True, exclude_unset=True, include=settings)
        if isinstance(member, PoolMember)
        else member
        for member in members
    ]


def _header(tags: Mapping[str, str]) -> str:
    for key, value in tags.items():
        text = key + value
        if not (text.isascii() and text.isprintable()) or "," in text or "=" in key:
            raise ValueError(f"tag {key!r} cannot stand in a header; `metadata` takes any text")
    return ",".join(f"{key}={value}" for key, value in tags.items())
