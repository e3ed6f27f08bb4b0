"""Members from a CSV file: each row is checked like a member of a request, and refused by line."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ValidationError

from lantern.core.errors import BadRequest
from lantern.core.sfids import record_key
from lantern.routing.pools import hours, models
from lantern.routing.pools.pool import Member, member, wire

_TRUE, _FALSE = {"true", "yes", "y", "1"}, {"false", "no", "n", "0"}
_MOST_ROWS = 5_000
_MOST_CELL = 20_000


@dataclass(slots=True)
class Sheet:
    """What a file asks for: members in its order, refused rows, and whom those were about."""

    members: list[Member] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    spared: set[str] = field(default_factory=set)


def read(text: str, known: dict[str, Member]) -> Sheet:
    """Members of a CSV text. `known`, by key: an empty cell leaves what such a member has.

    Raises BadRequest where the file as a whole is not one.
    """
    sheet, seen = Sheet(), set()
    for line, row in _rows(text):
        key = record_key(row.get("user_id", ""))
        try:
            if None in row:
                raise ValueError("more cells than the header has")
            if key in seen:
                raise _Cell("user_id", "is in the file twice")
            found = _member(row, known.get(key))
        except _Cell as fault:
            sheet.refused.append({"line": line, "field": fault.name, "message": str(fault)})
        except ValidationError as error:
            name, message = models.first_fault(error)
            sheet.refused.append({"line": line, "field": _column(name), "message": message})
        except ValueError as error:
            sheet.refused.append({"line": line, "field": "line", "message": str(error)})
        else:
            sheet.members.append(found)
            seen.add(key)
            continue
        sheet.spared.add(key)
    return sheet


class _Cell(ValueError):
    """A cell that cannot be read."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def _rows(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    header: list[str] | None = None
    try:
        for number, cells in enumerate(reader):
            line, row = reader.line_num, [cell.strip() for cell in cells]
            if number > _MOST_ROWS:
                raise BadRequest.field("csv", f"has more than {_MOST_ROWS} rows")
            if header is None:
                header = _header(row)
            elif any(row):
                yield line, _cells(header, row)
    except csv.Error as error:
        raise BadRequest.field("csv", f"line {reader.line_num}: {error}") from None
    if header is None:
        raise BadRequest.field("csv", "is empty: the first line names the columns")


def _header(row: list[str]) -> list[str]:
    names = [name.lower() for name in row]
    for name in names:
        if name not in _COLUMNS:
            columns = ", ".join(_COLUMNS)
            raise BadRequest.field("csv", f"unknown column '{name[:60]}'; known are {columns}")
    if len(set(names)) < len(names):
        raise BadRequest.field("csv", "names a column twice")
    if "user_id" not in names:
        raise BadRequest.field("csv", "has no column user_id")
    return names


def _cells(header: list[str], row: list[str]) -> dict[str, str]:
    cells: dict[Any, str] = dict(zip(header, row, strict=False))
    if len(row) > len(header):
        cells[None] = ""
    return cells


def _member(row: dict[str, str], known: Member | None) -> Member:
    values: dict[str, Any] = wire(known) if known else {}
    caps = dict(values.get("caps", {}))
    for name, cell in row.items():
        if not cell:
            continue
        if len(cell) > _MOST_CELL:
            raise _Cell(name, f"has more than {_MOST_CELL} characters")
        try:
            value = _COLUMNS[name](cell)
        except ValueError as error:
            raise _Cell(name, str(error)) from None
        if name.startswith("cap_"):
            caps[name.removeprefix("cap_")] = value
        else:
            values[name] = value
    return member(models.Member.model_validate({**values, "caps": caps}))


def _column(name: str) -> str:
    """The column of a field: `caps.day` is `cap_day`."""
    first, _, rest = name.partition(".")
    return f"cap_{rest}" if first == "caps" else first


def _boolean(cell: str) -> bool:
    word = cell.lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return word in _TRUE


def _list(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A cell with JSON, or with the short form."""

    def read_cell(cell: str) -> Any:
        return orjson.loads(cell) if cell.startswith("[") else parse(cell)

    return read_cell


def _days(cell: str) -> list[str]:
    return cell.replace(";", " ").split()


def _absences(cell: str) -> list[dict[str, str]]:
    found = []
    for part in filter(None, (part.strip() for part in cell.split(";"))):
        first, slash, last = part.partition("/")
        if not slash:
            raise ValueError(f"{part[:60]!r} is not like 2026-12-24/2027-01-02")
        found.append({"from": first.strip(), "to": last.strip()})
    return found


_COLUMNS: dict[str, Callable[[str], Any]] = {
    "user_id": str,
    "name": str,
    "active": _boolean,
    "weight": str,
    "order": str,
    "timezone": str,
    "working_hours": _list(hours.parse),
    "holidays": _list(_days),
    "out_of_office": _list(_absences),
    "cap_hour": str,
    "cap_day": str,
    "cap_week": str,
    "cap_open": str,
    "credit_back": _boolean,
}
