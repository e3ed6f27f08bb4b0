"""The OpenAPI document: as FastAPI makes it, with our errors instead of its 422."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from lantern.core import http

_ERRORS = {
    "400": "The request is wrong",
    "401": "The key is missing or invalid",
    "402": "Not enough credits",
    "403": "The key does not reach this",
    "404": "No such object",
    "409": "The state of the object refuses the call",
    "413": "The body is too large",
    "429": "Too many requests; see `Retry-After`",
    "500": "Our fault",
    "503": "The database does not answer",
}
_NESTED = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "request_id": {"type": "string"},
                "details": {},
            },
        }
    },
}
_FLAT = {
    "type": "object",
    "required": ["success", "error"],
    "properties": {
        "success": {"const": False},
        "error": {"type": "string"},
        "code": {"type": "string"},
        "details": {},
        "request_id": {"type": ["string", "null"]},
        "credits_required": {"type": ["number", "null"]},
        "credits_remaining": {"type": ["number", "null"]},
        "retry_after": {"type": ["integer", "null"]},
    },
}


def document(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"], schemas["FlatError"] = _NESTED, _FLAT
    made["components"]["securitySchemes"] = {"BearerAuth": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"BearerAuth": []}]
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            _errors(operation, flat=http.family(method.upper(), path) is not None)
    app.openapi_schema = made
    return made


def _errors(operation: dict[str, Any], *, flat: bool) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    for response in responses.values():
        # A stream is no one string, which is what FastAPI makes of it.
        response.get("content", {}).get("text/event-stream", {}).pop("schema", None)
    ref = {"$ref": "#/components/schemas/" + ("FlatError" if flat else "Error")}
    for status, meaning in _ERRORS.items():
        content = {"application/json": {"schema": ref}}
        responses.setdefault(status, {"description": meaning, "content": content})
