"""Values of every shape: what redact() must not let through."""

import pytest

from lantern.core import log

KEY = "lnt_" + "0aZ9" * 10 + "xyz"


@pytest.mark.parametrize(
    "value",
    [
        {"authorization": "x", "to": "ann@example.com"},  # nested values are not looked at
        ["ann@example.com", KEY],
        ValueError(f"{KEY} ann@example.com"),  # an object is written by its repr
        "tick_" + "a" * 43,  # a stream ticket in a text
        "sk-ant-api03-" + "a" * 40,  # providers' keys
        "Authorization: Basic dXNlcjpwYXNz",
        "host=db password=hunter2 user=x",
        f"bearer {KEY[4:]}".replace("bearer", "bearer"),  # schemes are case-insensitive
    ],
)
def test_nothing_secret_gets_through(value):
    text = str(log.redact(None, "info", {"event": "e", "value": value}))
    for secret in (
        "ann@example.com",
        KEY,
        "tick_a",
        "sk-ant-a",
        "dXNlcjpwYXNz",
        "hunter2",
        KEY[4:],
    ):
        assert secret not in text
