"""Where the settings of a client come from, and what never shows."""

import pytest

import lantern_sdk
from lantern_sdk import AsyncLantern, Lantern, NoAPIKey, _calls

from .peer import Peer, reply


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LANTERN_API_KEY", raising=False)
    monkeypatch.delenv("LANTERN_BASE_URL", raising=False)


def base(**arguments) -> str:
    with Lantern("lnt_a", **arguments) as client:
        return client._transport.config.base_url


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_the_base_url_may_end_in_v1(end):
    assert base(base_url=f"https://lantern.example{end}") == "https://lantern.example"
    assert base(base_url=f"http://10.0.0.1:81/lantern{end}") == "http://10.0.0.1:81/lantern"


def test_without_a_base_url_it_is_this_machine():
    assert base() == "http://127.0.0.1:8000"


async def test_the_environment_fills_in_and_an_argument_wins(monkeypatch):
    monkeypatch.setenv("LANTERN_API_KEY", "lnt_env\n")
    monkeypatch.setenv("LANTERN_BASE_URL", "http://env.example/v1")
    with Lantern() as client, Peer() as peer:
        assert repr(client) == "Lantern(base_url='http://env.example')"
        peer.plan(*[reply(200, {"keys": [], "total": 0, "page": 1, "per_page": 100})] * 2)
        with Lantern(base_url=peer.url) as other:
            assert list(other.keys.list()) == []
        async with AsyncLantern("lnt_arg", peer.url) as third:
            assert repr(third) == f"AsyncLantern(base_url='{peer.url}')"
            assert [key async for key in third.keys.list()] == []
    keys = [seen.headers["authorization"] for seen in peer.seen]
    assert keys == ["Bearer lnt_env", "Bearer lnt_arg"]


@pytest.mark.parametrize("key", [None, "", "  ", "lnt_\u00e9", "lnt_\r\nX: y"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key):
    with pytest.raises(NoAPIKey) as refused:
        Lantern(key)
    assert "lnt_" not in str(refused.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://lantern.example", "http://", "//x"])
def test_an_address_without_a_scheme_is_refused(url):
    with pytest.raises(ValueError, match="base_url must be like"):
        Lantern("lnt_a", url)


def test_nothing_prints_the_key():
    with Lantern("lnt_secret", "http://user:pass@127.0.0.1:1") as client:
        config = client._transport.config
        assert "lnt_secret" not in repr(client) + repr(config)
        assert config.describe(_calls.get_run("run_1")).endswith("at http://127.0.0.1:1")


def test_a_stream_is_given_time_for_three_heartbeats():
    with Lantern("lnt_a", timeout=5) as client:
        transport = client._transport
        request = transport.config.build(transport._http, _calls.stream_run("run_1", 0))
    assert request.extensions["timeout"] == {"connect": 5, "read": 45, "write": 5, "pool": 5}


def test_every_public_name_exists():
    assert sorted(lantern_sdk.__all__) == lantern_sdk.__all__
    assert all(hasattr(lantern_sdk, name) for name in lantern_sdk.__all__)
