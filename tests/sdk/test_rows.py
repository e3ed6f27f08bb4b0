"""An export is read as it comes, however its bytes are cut; what is not one is told."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lantern_sdk import ConnectionFailed, NotFound, UnexpectedAnswer
from lantern_sdk._rows import RowReader

from .peer import reply

ROW = {"timestamp": "2026-04-12T10:00:00Z", "object": "Lead", "object_id": "1", "action": "assign"}
HEAD = {"success": True, "from": "2026-04-12", "to": "2026-04-12"}
TEXT = st.text(st.sampled_from('"\\]}[{, \u00e9\U0001f3eealogs:'), max_size=12)


def export(rows: list, **end) -> bytes:
    told = {"count": len(rows), "total": len(rows), "truncated": False, **end}
    return json.dumps({**HEAD, "logs": rows, **told}, ensure_ascii=False).encode()


@settings(deadline=None)
@given(
    st.lists(st.tuples(TEXT, st.dictionaries(TEXT, TEXT | st.lists(TEXT)) | st.none()), max_size=4),
    st.integers(1, 60),
)
def test_rows_are_the_same_however_the_bytes_are_cut(texts, size):
    rows = [{**ROW, "reason": reason, "diff": diff} for reason, diff in texts]
    wire = export(rows)
    reader = RowReader()
    chunks = [wire[start : start + size] for start in range(0, len(wire), size)]
    read = [row for chunk in chunks for row in reader.feed(chunk)]
    assert [(row.reason, row.diff) for row in read] == texts
    assert reader.end().total == len(texts)


def test_a_row_is_there_before_the_next_has_come():
    reader = RowReader()
    wire = export([ROW, ROW])
    half = wire.index(b"}, {") + 6
    assert len(list(reader.feed(wire[:half]))) == 1
    assert len(list(reader.feed(wire[half:]))) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"logs":[', b"<p>" * 30000, b'{"logs":[1],"count":1}', b'{"logs":[]', b"\xff",
     b'{"logs":[{}],"count":1,"total":1,"truncated":false}', export([ROW])[:-1], export([ROW]) + b"x"],
)  # fmt: skip
async def test_what_is_not_an_export_is_told(lantern, peer, body):
    peer.plan(reply(200, body))
    with pytest.raises(UnexpectedAnswer):
        await lantern.all("logs", "export", "2026-04-12", "2026-04-12")


async def test_an_export_is_asked_for_again_until_it_begins(lantern, peer):
    busy = reply(503, {"error": "later"}, Retry_After="0")
    peer.plan(busy, reply(200, export([ROW])))
    rows = await lantern.all("logs", "export", "2026-04-12", "2026-04-12", pool="p", signed=True)
    assert len(rows) == 1
    assert peer.seen[1].query == {
        "from": "2026-04-12", "to": "2026-04-12", "pool": "p", "signed": "true",
    }  # fmt: skip
    peer.plan(reply(404, {"success": False, "error": "no"}))
    with pytest.raises(NotFound, match="no"):
        await lantern.all("logs", "export", "2026-04-12", "2026-04-12")


async def test_an_export_that_breaks_off_is_not_begun_again(lantern, peer):
    def cut(handler, _):
        handler.head(200, {"Content-Length": "100000"})
        handler.wfile.write(export([ROW, ROW])[:-40])
        handler.break_off()

    peer.plan(cut)
    with pytest.raises(ConnectionFailed, match=r"GET /v1/logs/routing at .* broke off"):
        await lantern.all("logs", "export", "2026-04-12", "2026-04-12")
    assert len(peer.seen) == 1
