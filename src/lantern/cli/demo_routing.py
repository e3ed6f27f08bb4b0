"""The demo's scene of routing: four people take turns on eight leads, and all of it can be checked."""

import time
from datetime import timedelta
from typing import Any

from lantern.core import clock
from lantern_dev.demo.client import Api, Refused

POOL = "inbound"
LEADS = 8
PACE_SECONDS = 0.15  # between two decisions, so that a person can read along
SEALED_SECONDS = 5.0  # the log is sealed twice a second

CONFLICT = 409


def show(api: Api) -> None:
    """The whole scene, through the API alone."""
    pool = _pool(api)
    print(", ".join(_person(member) for member in pool["members"]) + "\n", flush=True)
    made = [_assign(api, pool["sequence"] + number) for number in range(1, LEADS + 1)]
    middle = made[LEADS // 2]["assignment_id"]
    why = api.call("GET", f"/v1/routing/assignments/{middle}/explain")
    away = [one["user_id"] for one in why["candidates"] if one["reason"] == "out_of_office"]
    print(f"\nwhy      {why['summary']} Out of office: {', '.join(away)}.")
    print(f"credits  {_receipt(api)}")
    print(f"log      {_chain(api)}")


def _pool(api: Api) -> dict[str, Any]:
    now = clock.now()
    away = {"from": clock.iso(now), "to": clock.iso(now + timedelta(days=7))}
    members: list[dict[str, Any]] = [
        {"user_id": "ann", "weight": 2},
        {"user_id": "ben"},
        {"user_id": "cleo", "out_of_office": [away]},
        {"user_id": "dan"},
    ]
    try:
        made = api.call("POST", "/v1/routing/pools", {"pool": POOL, "members": members})
    except Refused as refused:
        if refused.status != CONFLICT:
            raise
        # It is there from an earlier time: who stays keeps its turns.
        made = api.call("PUT", f"/v1/routing/pools/{POOL}", {"members": members})
    return dict(made)


def _person(member: dict[str, Any]) -> str:
    remarks = [f"weight {member['weight']}"] if member["weight"] > 1 else []
    remarks += [f"out of office until {one['to'][:10]}" for one in member["out_of_office"]]
    return str(member["user_id"]) + (f" ({', '.join(remarks)})" if remarks else "")


def _assign(api: Api, number: int) -> dict[str, Any]:
    lead = f"00Q5g{number:010}"
    asked = {"object": "lead", "sf_id": lead, "pool": POOL, "explain": True}
    made: dict[str, Any] = api.call("POST", "/v1/routing/assign", asked)
    took = made["processing_time_ms"]
    print(
        f"  {made['sequence']:>3}  lead {lead}  ->  {made['assigned_to']:<5} {took} ms", flush=True
    )
    time.sleep(PACE_SECONDS)
    return made


def _receipt(api: Api) -> str:
    found = api.call("GET", "/v1/credits/receipts?operation=routing.assign&per_page=1")
    last = found["receipts"][0]
    price = f"{last['kind']} of {-last['amount']:g} for {last['operation']}"
    return f"receipt {last['id']}: {price}, {last['balance_after']:g} left"


def _chain(api: Api) -> str:
    deadline = time.monotonic() + SEALED_SECONDS
    while True:
        told = api.call("GET", "/v1/logs/verify")
        if not told["unsealed"] or time.monotonic() > deadline:
            break
        time.sleep(PACE_SECONDS)
    state = "intact" if told["intact"] else f"broken: {told['problem']['message']}"
    return f"{told['checked']} rows, each chained to the one before: {state}"
