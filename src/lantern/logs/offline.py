"""Checking a signed export with nothing but its files."""

import hashlib
from typing import Any

import orjson

from lantern.core.errors import BadRequest
from lantern.logs import signing
from lantern.logs.export import to_sign

_FIRST, _LAST = b'"logs":', b',"count":'


def check(data: bytes, given: bytes | None, public: bytes | None) -> dict[str, Any]:
    """Whether `data` is what was signed: by the signature file `given`, or by the one inside.

    `public` is the key to trust; without it the key that comes along is used, which proves
    nothing of who signed. Raises BadRequest for what is no signature.
    """
    signed = _signature(data, given)
    said = _statement(signed)
    key = public or signing.read_public(signed["public_key"])
    problem = None
    if not signing.holds(key, to_sign(signed["statement"]), signing.decode(signed["value"])):
        problem = "The signature is not that key's over this statement"
    elif hashlib.sha256(_covered(data, said)).hexdigest() != said["sha256"]:
        problem = "The content is not what was signed"
    return {
        "intact": problem is None,
        "problem": problem,
        "key_id": signing.key_id(key),
        "key_given": public is not None,
        "statement": said,
    }


def _signature(data: bytes, given: bytes | None) -> dict[str, str]:
    try:
        found = orjson.loads(data).get("signature") if given is None else orjson.loads(given)
    except (orjson.JSONDecodeError, AttributeError):
        found = None
    names = ("statement", "value", "public_key")
    if not isinstance(found, dict) or not all(isinstance(found.get(n), str) for n in names):
        raise BadRequest("No signature: give the `.sig` file, or an export made with `signed=true`")
    return found


def _statement(signed: dict[str, str]) -> dict[str, Any]:
    try:
        said = orjson.loads(signed["statement"])
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("sha256"), str):
        raise BadRequest("The signature has no statement")
    return said


def _covered(data: bytes, said: dict[str, Any]) -> bytes:
    """The whole file, or the list `logs` inside, byte for byte."""
    if said.get("covers") != "logs":
        return data
    start, end = data.find(_FIRST), data.rfind(_LAST)
    return data[start + len(_FIRST) : end] if 0 <= start < end else b""
