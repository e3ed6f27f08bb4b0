"""Ranks sentences by how well they fit a question: BM25 over the sentences of the input."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lantern.llm.material import Document

# Typographic quotes: \u2018 \u2019 single, \u201c \u201d double.
_WORD = re.compile("[^\\W_]+(?:['\u2019][^\\W_]+)?")
_BREAK = re.compile("(?<=[.!?])[\"'\u201d\u2019)]*\\s+(?=[\"'\u201c\u2018(]?[A-Z0-9])|\n+")
_ABBREVIATION = re.compile(r"(?:\b(?:Inc|Ltd|Corp|Co|Dr|Mr|Mrs|Ms|St|No|vs|e\.g|i\.e)|\b[A-Z])\.$")
_MARKER = re.compile(r"^(?:[-*+•>|]|#{1,6}|\d{1,2}[.)])\s+")
_ENDINGS = ("ation", "ing", "ed", "s", "e", "y", "i")
_STOP_WORDS = (
    "a about all also an and any are as at be been but by can compare could did do does for from give had "
    "has have how i if in into is it its list many me more most much of on or our over please should show so "
    "some tell than that the their them then there these they this to under up us was we were what "
    "when where which who whom whose why will with would write you your"
)
_STOP = frozenset(_STOP_WORDS.split())
_K1 = 1.2
_B = 0.5
_TITLE_WEIGHT = 0.6
_MIN_WORDS = 3
_MIN_STEM = 4
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


class Index:
    """The sentences of some documents, ready to be asked more than once."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = documents
        self._pool = sentences(documents)
        self._bags = [Counter(terms(sentence.text)) for sentence in self._pool]
        self._titles = [set(terms(document.title)) for document in documents]
        self._usual = sum(bag.total() for bag in self._bags) / (len(self._bags) or 1) or 1.0

    def best(self, question: str, most: int) -> list[Sentence]:
        """The sentences that fit the question, best first; empty when none has a word of it."""
        wanted = set(terms(question))
        weights = self._weights(wanted)
        scored: dict[str, Sentence] = {}
        for sentence, bag in zip(self._pool, self._bags, strict=True):
            hits = wanted & bag.keys()
            if not hits or sentence.text in scored:
                continue
            norm = _K1 * (1 - _B + _B * bag.total() / self._usual)
            score = sum(weights[t] * bag[t] * (_K1 + 1) / (bag[t] + norm) for t in hits)
            title = wanted & self._titles[sentence.document]
            score += _TITLE_WEIGHT * sum(weights[t] for t in title)
            scored[sentence.text] = replace(sentence, score=score)
        ranked = sorted(scored.values(), key=lambda s: (-s.score, s.position))
        return ranked[:most]

    def _weights(self, wanted: set[str]) -> dict[str, float]:
        """Rare words weigh more; a word of the title counts for each sentence under it."""
        having: Counter[str] = Counter()
        for sentence, bag in zip(self._pool, self._bags, strict=True):
            having.update(t for t in wanted if t in bag or t in self._titles[sentence.document])
        total = len(self._pool)
        return {t: math.log(1 + (total - having[t] + 0.5) / (having[t] + 0.5)) for t in wanted}


def _split(text: str) -> list[str]:
    parts: list[str] = []
    for raw in _BREAK.split(text):
        part = _MARKER.sub("", raw.strip())
        if parts and _ABBREVIATION.search(parts[-1]):
            parts[-1] = f"{parts[-1]} {part}"
        elif part:
            parts.append(part)
    return parts


@lru_cache(maxsize=20_000)
def _stem(word: str) -> str:
    """Without endings, so that employees, employed and employs are one word; needs no dictionary."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _MIN_STEM:
            return _stem(word[: -len(ending)])
    return word
