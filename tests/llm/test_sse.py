"""The parser of server-sent events: any split of the bytes gives the same events."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lantern.llm.sse import MAX_EVENT_BYTES, Oversized, Parser


def parse(pieces: list[bytes]) -> list[bytes]:
    parser = Parser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\ndata\ndata: b\n\n", [b"a\n\nb"]),
        (b"event: x\ndata: a\nid: 7\n\n", [b"a"]),
        (b": comment\n\ndata: a\n\n", [b"a"]),
        (b"\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"data: a\n", []),
        (b"event: ping\n\n", []),
        (b"<html>\n\n</html>\n\n", []),
    ],
)
def test_events(stream: bytes, events: list[bytes]) -> None:
    assert parse([stream]) == events
    assert parse([bytes([byte]) for byte in stream]) == events


LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Events and one way to write them."""
    events, written = [], b""
    for lines in draw(st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=6)):
        newline = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
        if draw(st.booleans()):
            written += b": comment" + newline
        if draw(st.booleans()):
            written += b"event: token" + newline
        written += b"".join(b"data: " + line.encode() + newline for line in lines) + newline
        events.append("\n".join(lines).encode())
    return events, written


@given(streams(), st.data())
def test_any_split_gives_the_same_events(
    stream: tuple[list[bytes], bytes], data: st.DataObject
) -> None:
    events, written = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=12)))
    edges = [0, *cuts, len(written)]
    pieces = [written[a:b] for a, b in itertools.pairwise(edges)]
    assert parse(pieces) == events


@given(st.lists(st.binary(max_size=50), max_size=20))
@example([b"data: a\r", b"", b"\n\r", b"\n"])
def test_garbage_never_breaks_it(pieces: list[bytes]) -> None:
    assert parse(pieces) == parse([b"".join(pieces)])


def test_an_event_is_given_out_with_its_last_byte() -> None:
    parser = Parser()
    assert parser.feed(b"data: a\r\n") == []
    assert parser.feed(b"\r") == [b"a"]  # the LF that may follow is not waited for
    assert parser.feed(b"\ndata: b\r\n\r\n") == [b"b"]


def test_an_event_without_end_is_refused() -> None:
    parser = Parser()
    half = b"x" * (MAX_EVENT_BYTES // 2)
    assert parser.feed(half) == []
    with pytest.raises(Oversized):
        parser.feed(half + b"x")
