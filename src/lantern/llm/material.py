"""What the built-in model can read out of a prompt: a question, documents, a schema, a plan wish."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lantern.llm.types import Message

# Asks any model for a plan; the built-in one knows the request by these very words.
PLAN_CUE = (
    "Do not answer yet. Write a short numbered plan of how you will answer: what to look for and "
    "in which document. Write the plan and nothing else."
)

MAX_CHARS = 200_000
_MAX_SCHEMA_TRIES = 20
_QUESTION_WORDS = 60
_STATEMENT = re.compile(r"\w{2}[.!](\s|$)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_TEXT_FIELDS = ("text", "content", "body", "snippet", "summary")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Document:
    """A text to quote from; the title is empty where nobody gave one."""

    title: str
    text: str


@dataclass(slots=True)
class Material:
    """A prompt, understood as far as rules go."""

    question: str = ""
    documents: list[Document] = field(default_factory=list)
    schema: dict[str, Any] | None = None
    wants_plan: bool = False
    cut: bool = False


def read(messages: Sequence[Message]) -> Material:
    """Understand a prompt; texts beyond MAX_CHARS in all are left out and `cut` is set."""
    found = Material()
    last_answer = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
    for index, message in enumerate(messages):
        text = message.content
        if message.role == "user":
            _read_user(text, found)
        elif message.role == "tool":
            found.documents += _documents(_parsed(text) or text)
        if message.role == "system" or index > last_answer:
            found.wants_plan = found.wants_plan or PLAN_CUE in text
            found.schema = _schema(text) or found.schema
    if not found.documents and _STATEMENT.search(found.question):
        found.documents.append(Document("", found.question))  # a short text is better than none
    _cut(found)
    return found


def _cut(found: Material) -> None:
    """Ranking takes time on the loop that other streams share, so the input has a bound."""
    left = MAX_CHARS
    for number, document in enumerate(found.documents):
        if len(document.text) > left:
            found.documents[number] = Document(document.title, document.text[:left])
            found.cut = True
        left = max(0, left - len(document.text))


def _read_user(text: str, found: Material) -> None:
    parsed = _parsed(text)
    if isinstance(parsed, dict):
        lists = [value for value in parsed.values() if isinstance(value, list)]
        found.documents += [doc for value in lists for doc in _documents(value)]
        words = [value for value in parsed.values() if isinstance(value, str)]
        found.question = " ".join(words) or found.question
    elif PLAN_CUE not in text and not (found.documents and found.question):
        question, documents = _plain(text)
        found.question = question or found.question
        found.documents += documents


def _plain(text: str) -> tuple[str, list[Document]]:
    """Headings make documents; without any, a long text is its own document."""
    headings = list(_HEADING.finditer(text))
    if headings:
        ends = [heading.start() for heading in headings[1:]] + [len(text)]
        documents = [
            Document(heading[1], text[heading.end() : end].strip())
            for heading, end in zip(headings, ends, strict=True)
        ]
        return text[: headings[0].start()].strip(), documents
    if len(text.split()) <= _QUESTION_WORDS:
        return text.strip(), []
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    asking = next((part for part in paragraphs if part.endswith("?")), paragraphs[0])
    rest = "\n".join(part for part in paragraphs if part != asking)
    return asking, [Document("", rest or asking)]


def _documents(value: Any) -> Iterator[Document]:
    if isinstance(value, str):
        yield Document("", value)
    elif isinstance(value, list):
        for item in value:
            yield from _documents(item)
    elif isinstance(value, dict):
        text = next((value[f] for f in _TEXT_FIELDS if isinstance(value.get(f), str)), None)
        if text is not None:
            title = value.get("title") or value.get("name") or value.get("url") or ""
            yield Document(str(title), text)
        else:
            for item in value.values():
                if isinstance(item, list | dict):
                    yield from _documents(item)


def _parsed(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _schema(text: str) -> dict[str, Any] | None:
    """The first JSON schema of an object in the text."""
    if '"properties"' not in text:
        return None
    at = -1
    for _ in range(_MAX_SCHEMA_TRIES):
        at = text.find("{", at + 1)
        if at < 0:
            return None
        try:
            value, _ = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        for candidate in (value, *(v for v in value.values() if isinstance(v, dict))):
            if isinstance(candidate.get("properties"), dict):
                return dict(candidate)
    return None
