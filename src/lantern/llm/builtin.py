"""The built-in model: no weights, no network. It quotes the sentences of its input that fit the
question best, word for word and marked as quotes, and says in its notes what it is.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence

from lantern.llm import fill, material, rank
from lantern.llm.material import PLAN_CUE, Document, Material
from lantern.llm.types import Chunk, Done, Limits, Message, Usage

__all__ = ["NAME", "NOTICE", "PLAN_CUE", "PROVIDER_MODEL", "answer", "stream"]

NAME = "builtin"
PROVIDER_MODEL = "lantern/builtin-extractive"
NOTICE = (
    "no language model is configured; the built-in extractive model answered by quoting the input"
)

_SMALL = 20_000
_QUOTES = 6
_WORTH = 0.35  # of the best sentence's score
_PLAN_TITLES = 6
_SHOWN_QUESTION = 200
_WORD = re.compile(r"\s*\S+|\s+$")


async def stream(
    messages: Sequence[Message], limits: Limits, pace: float = 0.0
) -> AsyncGenerator[Chunk, None]:
    """The answer word by word, `pace` seconds apart; a word counts as a token."""
    found = material.read(messages)
    size = sum(len(document.text) for document in found.documents)
    # Ranking a long input takes tens of milliseconds, which other streams need not wait for.
    whole = answer(found) if size < _SMALL else await asyncio.to_thread(answer, found)
    words = _WORD.findall(whole)
    shown = words[: limits.max_tokens]
    for word in shown:
        # Also without a pace: other streams of this loop get their turn between two words.
        await asyncio.sleep(pace)
        yield Chunk([word])
    notes: dict[str, object] = {"notice": NOTICE, "documents": len(found.documents)}
    if found.cut:
        notes["cut"] = f"only the first {material.MAX_CHARS} characters of the input were read"
    read = sum(len(message.content.split()) for message in messages)
    usage = Usage(read, len(shown))
    yield Chunk(done=Done("stop" if shown == words else "length", usage, notes))


def answer(found: Material) -> str:
    """The whole answer, in Markdown, or JSON where a schema asks for it."""
    if found.wants_plan:
        return _plan(found)
    if found.schema is not None:
        filled = fill.fill(found.schema, found.question, rank.Index(found.documents))
        return json.dumps(filled, ensure_ascii=False, indent=2)
    return _quotes(found)


def _plan(found: Material) -> str:
    titles = [document.title for document in found.documents if document.title][:_PLAN_TITLES]
    looked_for = ", ".join(dict.fromkeys(rank.words(found.question)))
    steps = [f"Look for: {looked_for}." if looked_for else "Find out what is asked."]
    steps += [f"Read “{title}”." for title in titles]
    unnamed = len(found.documents) - len(titles)
    if unnamed:
        more = "more " if titles else ""
        steps.append(f"Read {unnamed} {more}text{'s' if unnamed > 1 else ''} of the input.")
    steps.append(f"Quote the sentences that answer: {_short(found.question)}")
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def _quotes(found: Material) -> str:
    if not found.documents:
        return (
            "There is no text in the input to answer from. This model quotes documents; it knows "
            "nothing by itself. Give `documents`, or configure a language model."
        )
    ranked = rank.Index(found.documents).best(found.question, _QUOTES)
    if not ranked:
        return f"No sentence of the input fits the question: {_short(found.question)}"
    worth = [s for s in ranked if s.score >= _WORTH * ranked[0].score]
    parts = []
    for number in dict.fromkeys(sentence.document for sentence in worth):
        chosen = sorted((s for s in worth if s.document == number), key=lambda s: s.position)
        quoted = "\n>\n".join(f"> “{sentence.text}”" for sentence in chosen)
        parts.append(f"{_source(found.documents[number])}\n\n{quoted}")
    return "\n\n".join(parts)


def _source(document: Document) -> str:
    return f"From **{document.title}**:" if document.title else "From the input:"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_QUESTION else f"{text[:_SHOWN_QUESTION].rstrip()} …"
