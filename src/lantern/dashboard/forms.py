"""Forms: their text into the API's own models, and faults beside the fields that have them."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lantern.core import http
from lantern.core.errors import BadRequest, LanternError

OTHER_FORM = "This is not of the form that is asked for"  # the hint beside the field says which
Body = TypeVar("Body", bound=BaseModel)


def read(model: type[Body], values: Mapping[str, Any]) -> Body:
    """The values as a body of the API. Raises BadRequest with a detail for each wrong field."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        details = [
            {"loc": ["body", *fault["loc"]], "msg": http.words(fault), "type": fault["type"]}
            for fault in error.errors(include_url=False, include_input=False)
        ]
        name = ".".join(map(str, details[0]["loc"][1:])) or "form"
        raise BadRequest(f"{name}: {details[0]['msg']}", details=details) from None


def faults(error: LanternError) -> dict[str, str]:
    """What is wrong, by the field's dotted name; '' for what concerns none of them."""
    found: dict[str, str] = {}
    details = error.details if isinstance(error.details, list) else []
    for detail in details:
        if isinstance(detail, dict) and "loc" in detail:
            name = ".".join(str(part) for part in detail["loc"][1:] if not isinstance(part, int))
            pattern = detail.get("type") == "string_pattern_mismatch"
            found.setdefault(name, OTHER_FORM if pattern else str(detail["msg"]))
    return found or {"": error.message}


def lines(text: str) -> list[str]:
    """A list that was typed a line, or a comma, apart."""
    return [part.strip() for part in text.replace(",", "\n").splitlines() if part.strip()]


def pairs(text: str, field: str) -> dict[str, str]:
    """`key=value` a line. Raises BadRequest naming the field."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line := line.strip():
            key, equals, value = line.partition("=")
            if not equals or not key.strip():
                raise BadRequest.field(field, f"'{line[:60]}' is not key=value")
            found[key.strip()] = value.strip()
    return found


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was left empty: the model's own defaults hold."""
    return {name: value for name, value in values.items() if value not in ("", [], None)}
