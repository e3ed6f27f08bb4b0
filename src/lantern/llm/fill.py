"""Fills a simple JSON schema from texts: what stands there, or the empty value of the type."""

import re
from collections.abc import Sequence
from typing import Any

from lantern.llm import rank
from lantern.llm.material import Document

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?![\w])")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_LINK = re.compile(r"https?://[^\s)>\"']+")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_FORMATS = {"email": _EMAIL, "uri": _LINK, "url": _LINK, "date": _DATE}
_NEGATIVE = re.compile(r"\b(?:no|not|never|without|none|lacks?)\b", re.IGNORECASE)
_MAX_DEPTH = 4
_MAX_FIELDS = 50
_MAX_ITEMS = 5


def fill(
    schema: dict[str, Any], question: str, documents: Sequence[Document], depth: int = 0
) -> dict[str, Any]:
    """An object of the schema's shape; at most 50 fields, four levels deep."""
    fields = list(schema.get("properties", {}).items())[:_MAX_FIELDS]
    return {
        name: _value(name, part if isinstance(part, dict) else {}, question, documents, depth)
        for name, part in fields
    }


def _value(
    name: str, schema: dict[str, Any], question: str, documents: Sequence[Document], depth: int
) -> Any:
    kinds = schema.get("type", "string")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    kind = next((k for k in kinds if k != "null"), "string")
    if kind == "object":
        return fill(schema, question, documents, depth + 1) if depth < _MAX_DEPTH else {}
    asked = f"{_spoken(name)} {schema.get('description', '')}"
    # The field's own words decide; those of the question only where they say nothing.
    found = rank.best(asked, documents, _MAX_ITEMS) or rank.best(question, documents, _MAX_ITEMS)
    value = _typed(kind, schema, [sentence.text for sentence in found], documents)
    if value is None and "null" not in kinds:
        return {"number": 0, "integer": 0, "boolean": False, "array": []}.get(kind, "")
    return value


def _typed(
    kind: str, schema: dict[str, Any], texts: Sequence[str], documents: Sequence[Document]
) -> Any:
    if options := schema.get("enum"):
        return _option(options, texts, documents)
    match kind:
        case "number" | "integer":
            return _number(kind, texts)
        case "boolean":
            return not _NEGATIVE.search(texts[0]) if texts else None
        case "array":
            return list(texts)
    if pattern := _FORMATS.get(schema.get("format", "")):
        hits = [
            hit[0]
            for text in (*texts, *(d.text for d in documents))
            if (hit := pattern.search(text))
        ]
        return hits[0] if hits else None
    return texts[0] if texts else None


def _number(kind: str, texts: Sequence[str]) -> int | float | None:
    for text in texts:
        for hit in _NUMBER.finditer(text):
            digits = hit[0].replace(",", "")
            if kind == "number":
                return float(digits) if "." in digits else int(digits)
            if "." not in digits:
                return int(digits)
    return None


def _option(options: list[Any], texts: Sequence[str], documents: Sequence[Document]) -> Any:
    """The option that the best sentences name, else any text, else the first."""
    for text in (*texts, *(document.text for document in documents)):
        for option in options:
            if re.search(rf"\b{re.escape(str(option))}\b", text, re.IGNORECASE):
                return option
    return options[0] if options else None


def _spoken(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_|-", " ", name)
