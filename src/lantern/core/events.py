"""The events of a run: how they are kept, and how they look on the wire.

Kept as a JSON list a row: a token is `[epoch_ms, text]`, any other event is
`{"type", "at": epoch_ms, ...fields}`. On the wire each is one server-sent event: `id: <seq>` and
one JSON object that carries the seed's fields and a superset (`run_id, seq, ts, kind, data`).
"""

from typing import Any

import orjson

from lantern.core import clock

Item = list[Any] | dict[str, Any]

ATTEMPT = 1_000_000  # each takeover begins at the next multiple of this, plus 1
FINAL = frozenset({"run.complete", "run.failed", "run.cancelled"})
HEARTBEAT = b": heartbeat\n\n"

_KINDS = {
    "step.start": "step_started",
    "step.restart": "step_started",
    "step.complete": "step_completed",
    "step.failed": "step_failed",
    "tool.call": "tool_call",
    "tool.result": "tool_result",
    "approval.required": "approval",
    "run.complete": "end",
    "run.failed": "end",
    "run.cancelled": "end",
}


def event(kind: str, **fields: Any) -> Item:
    """An event of now."""
    return {"type": kind, "at": clock.epoch_ms(), **fields}


def is_final(item: Item) -> bool:
    """Nothing follows this event."""
    return isinstance(item, dict) and item["type"] in FINAL


def frame(run_id: str, seq: int, item: Item) -> bytes:
    """One server-sent event. Tokens are the hot path: their JSON is put together by hand."""
    if isinstance(item, list):
        ts = clock.iso_ms(item[0]).encode()
        text = orjson.dumps(item[1])
        return (
            b'id: %d\ndata: {"type":"token","content":%b,"timestamp":"%b","run_id":"%b","seq":%d,'
            b'"ts":"%b","kind":"llm_delta","data":{"content":%b}}\n\n'
        ) % (seq, text, ts, run_id.encode(), seq, ts, text)
    return b"id: %d\ndata: %b\n\n" % (seq, orjson.dumps(as_object(run_id, seq, item)))


def as_object(run_id: str, seq: int, item: Item) -> dict[str, Any]:
    """The JSON object of an event."""
    if isinstance(item, list):
        kind, at, fields = "token", item[0], {"content": item[1]}
    else:
        fields = dict(item)
        kind, at = fields.pop("type"), fields.pop("at")
    ts = clock.iso_ms(at)
    wire = _KINDS.get(kind, "llm_delta" if kind == "token" else kind)
    own = {"type": kind, **fields, "timestamp": ts, "run_id": run_id, "seq": seq, "ts": ts}
    return {**own, "kind": wire, "data": fields}


def pack(items: list[Item]) -> str:
    """Items as they are kept in a row."""
    return orjson.dumps(items).decode()


def unpack(data: str) -> list[Item]:
    """The items of a row."""
    items: list[Item] = orjson.loads(data)
    return items
