"""Fills a simple JSON schema from texts: what stands there, or the empty value of the type."""

import re
from collections.abc import Sequence
from typing import Any

from lantern.llm import rank
from lantern.llm.rank import Index

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?![\w])")
_WORD = re.compile(r"\w+")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_LINK = re.compile(r"https?://[^\s)>\"']+")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_FORMATS = {"email": _EMAIL, "uri": _LINK, "url": _LINK, "date": _DATE}
_NEGATIVE = re.compile(r"\b(?:no|not|never|without|none|lacks?)\b", re.IGNORECASE)
_EMPTY: dict[Any, Any] = {
    "number": 0,
    "integer": 0,
    "boolean": False,
    "array": [],
    "object": {},
    "string": "",
    "null": None,
}
_MAX_DEPTH = 4
_MAX_FIELDS = 100
_MAX_ITEMS = 5


def fill(schema: dict[str, Any], question: str, index: Index) -> dict[str, Any]:
    """An object of the schema's shape; at most 100 fields in all, four levels deep."""
    return _Filler(question, index).object(schema, 0)


class _Filler:
    """Fills one schema; holds what all its fields share."""

    def __init__(self, question: str, index: Index) -> None:
        self._index = index
        self._left = _MAX_FIELDS
        general = index.best(question, _MAX_ITEMS)
        self._general = [sentence.text for sentence in general]
        # The documents that the question is about: an address of another one would be wrong.
        self._about = [index.documents[n].text for n in dict.fromkeys(s.document for s in general)]

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """An object; a schema may nest, so the number of its fields is bounded in all."""
        fields = schema.get("properties")
        filled = {}
        for name, part in fields.items() if isinstance(fields, dict) else ():
            if self._left == 0:
                break
            self._left -= 1
            filled[name] = self._value(name, part if isinstance(part, dict) else {}, depth)
        return filled

    def _value(self, name: str, schema: dict[str, Any], depth: int) -> Any:
        named = schema.get("type", "string")
        kinds = [
            kind for kind in (named if isinstance(named, list) else [named]) if str(kind) in _EMPTY
        ]
        kind = next((k for k in kinds if k != "null"), "string")
        if kind == "object":
            return self.object(schema, depth + 1) if depth < _MAX_DEPTH else {}
        asked = f"{_spoken(name)} {schema.get('description', '')}"
        own = [sentence.text for sentence in self._index.best(asked, _MAX_ITEMS)]
        # The field's own words decide; those of the question only where they find nothing.
        texts = own or ([] if "null" in kinds else self._general)
        value = self._typed(kind, schema, asked, texts)
        return _EMPTY[kind] if value is None and "null" not in kinds else value

    def _typed(self, kind: str, schema: dict[str, Any], asked: str, texts: Sequence[str]) -> Any:
        options = schema.get("enum")
        if isinstance(options, list) and options:
            return _option(options, [*texts, *self._about])
        match kind:
            case "number" | "integer":
                return _number(kind, asked, texts)
            case "boolean":
                return not _NEGATIVE.search(texts[0]) if texts else None
            case "array":
                return list(texts)
        if pattern := _FORMATS.get(str(schema.get("format"))):
            hits = (pattern.search(text) for text in [*texts, *self._about])
            return next((hit[0] for hit in hits if hit), None)
        return texts[0] if texts else None


def _number(kind: str, asked: str, texts: Sequence[str]) -> int | float | None:
    """The number that stands nearest to a word of the field, in the best sentence that has one."""
    wanted = set(rank.terms(asked))
    for text in texts:
        near = [m.start() for m in _WORD.finditer(text) if wanted & set(rank.terms(m[0]))]
        found = []
        for hit in _NUMBER.finditer(text):
            digits = hit[0].replace(",", "")
            if kind == "number" or "." not in digits:
                away = min((abs(hit.start() - at) for at in near), default=0)
                found.append((away, float(digits) if "." in digits else int(digits)))
        if found:
            return min(found)[1]
    return None


def _option(options: list[Any], texts: Sequence[str]) -> Any:
    """The option that the best text names, else the first."""
    for text in texts:
        for option in options:
            if re.search(rf"\b{re.escape(str(option))}\b", text, re.IGNORECASE):
                return option
    return options[0]


def _spoken(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_|-", " ", name)
