"""Reads the JSON of an export as its bytes come: rows one by one, then what stands behind them.

    {..., "logs":[{row},{row}, ...],"count":2,"total":2,"truncated":false}

No more than a row and a chunk is held.
"""

import codecs
import json
import re
from collections.abc import Iterator

from ._errors import UnexpectedAnswer
from ._logs_models import ExportSummary, LogRow

_ROWS = re.compile(r'"logs"\s*:\s*\[')
_BEFORE_A_ROW = re.compile(r"[\s,]*")
_MOST_BEFORE = 65_536  # characters in front of the rows: an answer of somebody else ends here
_JSON = json.JSONDecoder()


class RowReader:
    """Takes chunks, gives rows; `end` gives the summary."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._begun = False
        self._ended = False

    def feed(self, chunk: bytes) -> Iterator[LogRow]:
        """The rows that `chunk` completes; UnexpectedAnswer."""
        try:
            self._text += self._decoder.decode(chunk)
            if self._begun or self._found():
                yield from self._rows()
        except ValueError as problem:
            raise _unexpected(str(problem)) from problem

    def end(self) -> ExportSummary:
        """What stood behind the rows; UnexpectedAnswer when the rows did not end."""
        if not self._ended:
            raise _unexpected("it ends before its rows do")
        try:
            return ExportSummary.model_validate_json('{"success":true' + self._text)
        except ValueError as problem:
            raise _unexpected(str(problem)) from problem

    def _found(self) -> bool:
        opening = _ROWS.search(self._text)
        if opening:
            self._begun, self._text = True, self._text[opening.end() :]
        elif len(self._text) > _MOST_BEFORE:
            raise ValueError("it has no rows")
        return self._begun

    def _rows(self) -> Iterator[LogRow]:
        at = 0
        while not self._ended:
            skipped = _BEFORE_A_ROW.match(self._text, at)
            start = skipped.end() if skipped else at
            if self._text.startswith("]", start):
                self._ended, at = True, start + 1
                break
            try:
                row, at = _JSON.raw_decode(self._text, start)
            except json.JSONDecodeError:  # the rest of this row is still to come
                break
            yield LogRow.model_validate(row)
        self._text = self._text[at:]


def _unexpected(why: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"the export is not one of Lantern's: {why}")
