"""The decoder gives the same messages however the bytes were cut into pieces."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from lantern_sdk._sse import Decoder, Message

LINE = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
MESSAGES = st.lists(st.tuples(st.lists(LINE, min_size=1, max_size=3), st.none() | LINE))
CUTS = st.lists(st.integers(0, 2000))
LIKELY = st.lists(
    st.sampled_from(
        [b"data", b"id", b":", b" ", b"\r", b"\n", b"\n\n", b"x", b"\xc3", b"\xef\xbb\xbf"]
    )
).map(b"".join)


def decode(wire: bytes, cuts: list[int]) -> list[Message]:
    places = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    decoder = Decoder()
    return [message for start, end in pairwise(places) for message in decoder.feed(wire[start:end])]


@settings(deadline=None)
@given(MESSAGES, ENDS, CUTS, st.booleans())
def test_what_was_written_is_read_wherever_it_is_cut(messages, end, cuts, marked):
    text = "\ufeff" if marked else ""
    for lines, id_ in messages:
        text += f": heartbeat{end}{end}"
        text += "" if id_ is None else f"id: {id_}{end}"
        text += "".join(f"data: {line}{end}" for line in lines) + end
    expected = [Message("\n".join(lines), id_) for lines, id_ in messages]
    assert decode(text.encode(), cuts) == expected


@settings(deadline=None)
@given(st.binary() | LIKELY, CUTS)
def test_any_bytes_read_the_same_whole_and_in_pieces(wire, cuts):
    assert decode(wire, cuts) == decode(wire, [])


def test_a_space_after_the_colon_is_optional_and_only_one_is_taken():
    assert decode(b"data:a\ndata:  b\ndata\n\n", []) == [Message("a\n b\n")]


def test_a_message_without_its_blank_line_never_was():
    assert decode(b"id: 7\ndata: cut off\n", []) == []


def test_an_id_does_not_reach_the_next_message():
    assert decode(b"id: 1\ndata: a\n\ndata: b\n\n", []) == [Message("a", "1"), Message("b")]


def test_other_fields_and_an_id_with_a_zero_byte_are_passed_over():
    assert decode(b"event: token\nretry: 10\nid: 1\0\ndata: a\n\n", []) == [Message("a")]
