"""Ranks sentences by how well they fit a question: BM25 over the sentences of the input."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lantern.llm.material import Document

# Typographic quotes: \u2018 \u2019 single, \u201c \u201d double.
_WORD = re.compile("[^\\W_]+(?:['\u2019][^\\W_]+)?")
_BREAK = re.compile("(?<=[.!?])[\"'\u201d\u2019)]*\\s+(?=[\"'\u201c\u2018(]?[A-Z0-9])|\n+")
_ABBREVIATION = re.compile(r"(?:\b(?:Inc|Ltd|Corp|Co|Dr|Mr|Mrs|Ms|St|No|vs|e\.g|i\.e)|\b[A-Z])\.$")
_MARKER = re.compile(r"^(?:[-*+•>|]|#{1,6}|\d{1,2}[.)])\s+")
_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "e", "y")
_STOP_WORDS = (
    "a about all also an and any are as at be been but by can could did do does for from give had "
    "has have how i if in into is it its list me more most of on or our over please should show so "
    "some tell than that the their them then there these they this to under up us was we were what "
    "when where which who whom whose why will with would write you your"
)
_STOP = frozenset(_STOP_WORDS.split())
_K1 = 1.2
_B = 0.5
_TITLE_WEIGHT = 0.6
_MIN_WORDS = 3
_MAX_SENTENCES = 5_000


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and where it stands."""

    text: str
    document: int
    position: int
    score: float = 0.0


def terms(text: str) -> list[str]:
    """The words that carry meaning, without their endings."""
    return [_stem(word) for word in words(text.lower())]


def words(text: str) -> list[str]:
    """The words that carry meaning, as written."""
    return [word for word in _WORD.findall(text) if word.lower() not in _STOP]


def sentences(documents: Sequence[Document]) -> list[Sentence]:
    """The sentences of all documents, in order; fragments of one or two words are left out."""
    found: list[Sentence] = []
    for number, document in enumerate(documents):
        for text in _split(document.text):
            if len(text.split()) >= _MIN_WORDS:
                found.append(Sentence(text, number, len(found)))
            if len(found) == _MAX_SENTENCES:
                return found
    return found


def best(question: str, documents: Sequence[Document], most: int) -> list[Sentence]:
    """The sentences that fit the question, best first; empty when none has a word of it."""
    pool = sentences(documents)
    wanted = set(terms(question))
    if not wanted or not pool:
        return []
    bags = [Counter(terms(sentence.text)) for sentence in pool]
    titles = [set(terms(document.title)) for document in documents]
    weights = _weights(wanted, bags, titles, pool)
    usual = sum(bag.total() for bag in bags) / len(bags) or 1.0
    scored = []
    for sentence, bag in zip(pool, bags, strict=True):
        norm = _K1 * (1 - _B + _B * bag.total() / usual)
        inside = sum(weights[t] * bag[t] * (_K1 + 1) / (bag[t] + norm) for t in wanted if bag[t])
        title = sum(weights[t] for t in wanted & titles[sentence.document])
        if inside:
            score = inside + _TITLE_WEIGHT * title
            scored.append(Sentence(sentence.text, sentence.document, sentence.position, score))
    scored.sort(key=lambda sentence: (-sentence.score, sentence.position))
    unlike = {sentence.text: sentence for sentence in reversed(scored)}
    return [sentence for sentence in scored if unlike[sentence.text] is sentence][:most]


def _weights(
    wanted: set[str],
    bags: Sequence[Counter[str]],
    titles: Sequence[set[str]],
    pool: Sequence[Sentence],
) -> dict[str, float]:
    """Rare words weigh more; a word of the title counts for each sentence under it."""
    total = len(bags)
    weights = {}
    for term in wanted:
        having = sum(
            1
            for bag, s in zip(bags, pool, strict=True)
            if term in bag or term in titles[s.document]
        )
        weights[term] = math.log(1 + (total - having + 0.5) / (having + 0.5))
    return weights


def _split(text: str) -> list[str]:
    parts: list[str] = []
    for raw in _BREAK.split(text):
        part = _MARKER.sub("", raw.strip())
        if parts and _ABBREVIATION.search(parts[-1]):
            parts[-1] = f"{parts[-1]} {part}"
        elif part:
            parts.append(part)
    return parts


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
