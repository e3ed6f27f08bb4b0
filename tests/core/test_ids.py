"""Identifiers: unique, sortable by time, and secrets with all their bits."""

import re
import time

import pytest

from lantern.core import ids

BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


def test_ids_say_what_they_are():
    assert re.fullmatch(rf"run_[{BASE32}]{{26}}", ids.new("run"))


def test_ids_sort_by_their_time(monkeypatch):
    made = []
    for ms in (0, 1, 31, 32, 10**9, 1_800_000_000_000, 2**48 - 1):
        monkeypatch.setattr(time, "time_ns", lambda ms=ms: ms * 1_000_000)
        made.append(ids.new("x"))
    assert made == sorted(made)
    assert {len(each) for each in made} == {28}


def test_ids_of_one_moment_differ():
    assert len({ids.new("x") for _ in range(20_000)}) == 20_000


def test_secrets_are_43_characters_of_base62(monkeypatch):
    assert re.fullmatch(r"lnt_[0-9A-Za-z]{43}", ids.secret("lnt"))
    assert len({ids.secret("lnt") for _ in range(5_000)}) == 5_000
    for filler, text in ((b"\0", "0" * 43), (b"\xff", None)):
        monkeypatch.setattr(ids.os, "urandom", lambda n, filler=filler: filler * n)
        secret = ids.secret("lnt")
        assert len(secret) == 4 + 43
        assert text is None or secret == f"lnt_{text}"


@pytest.mark.parametrize("bit", [0, 1, 100, 254, 255])
def test_every_random_bit_shows_in_a_secret(monkeypatch, bit):
    def urandom(n: int, value: int) -> bytes:
        return value.to_bytes(n)

    monkeypatch.setattr(ids.os, "urandom", lambda n: urandom(n, 0))
    zero = ids.secret("lnt")
    monkeypatch.setattr(ids.os, "urandom", lambda n: urandom(n, 1 << bit))
    assert ids.secret("lnt") != zero
