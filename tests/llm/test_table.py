"""The table of models and what they cost."""

import asyncio
import time
from decimal import Decimal
from typing import Any

import pytest

from lantern.core.web import Web
from lantern.llm import Models, Price, Usage, models
from lantern.settings import ModelSettings, Settings
from lantern_dev.model import FakeModel

NOBODY = {"OLLAMA_HOST": "127.0.0.1:1"}


def table(web: Web, *rows: dict[str, Any], environ: dict[str, str] | None = None) -> Models:
    settings = Settings(models=[ModelSettings(**row) for row in rows])
    return Models.from_settings(settings, web, environ or {})


def test_the_configured_models_in_their_order(web: Web) -> None:
    made = table(
        web,
        {"name": "small", "base_url": "http://127.0.0.1:9/v1/", "model": "gpt-5-mini"},
        {"name": "claude", "protocol": "anthropic", "api_key_env": "K", "abilities": ["tools"]},
        environ={"OPENAI_API_KEY": "sk-ignored"},
    )
    small, claude, builtin = made.table
    assert (small.name, small.base_url, small.provider_model) == (
        "small",
        "http://127.0.0.1:9/v1",
        "gpt-5-mini",
    )
    assert (claude.base_url, claude.provider_model, claude.api_key_env) == (
        "https://api.anthropic.com",
        "claude",
        "K",
    )
    assert claude.abilities == {"tools"}
    assert (builtin.name, builtin.price) == ("builtin", Price(Decimal(0), Decimal(0)))


def test_the_builtin_may_be_configured_under_another_name(web: Web) -> None:
    made = table(web, {"name": "quotes", "protocol": "builtin"})
    assert [model.name for model in made.table] == ["quotes"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"name": "auto"}, "choice of models"),
        ({"name": "m", "base_url": "ftp://x/"}, "not an http"),
        ({"name": "m", "base_url": "localhost:1234"}, "not an http"),
        ({"name": "m", "base_url": "http://[::1"}, "not an http"),
        ({"name": "m", "base_url": "https://me:hush@models.example/v1"}, "credentials"),
    ],
)
def test_a_wrong_row_is_told_at_the_start(web: Web, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as wrong:
        table(web, row)
    assert "hush" not in str(wrong.value)


def test_a_name_twice_is_told_at_the_start(web: Web) -> None:
    with pytest.raises(ValueError, match="twice"):
        table(web, {"name": "m", "self_hosted": True}, {"name": "m", "self_hosted": True})


def test_models_are_found_by_their_keys(web: Web) -> None:
    made = Models.from_settings(
        Settings(), web, {"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "sk-2"}
    )
    first, second, last = made.table
    assert (first.name, first.base_url) == (models.OPENAI_MODEL, "https://api.openai.com/v1")
    assert (second.name, second.protocol) == (models.ANTHROPIC_MODEL, "anthropic")
    assert last.name == "builtin"
    assert first.price is not None
    assert second.price is not None
    assert "sk-" not in repr(made.table)


def test_their_own_variables_name_address_and_model(web: Web) -> None:
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:8080/v1", "OPENAI_MODEL": "qwen"}
    (found, _) = Models.from_settings(Settings(), web, environ).table
    assert (found.name, found.base_url, found.api_key_env) == (
        "qwen",
        "http://127.0.0.1:8080/v1",
        None,
    )


def test_with_nothing_there_is_the_builtin(web: Web) -> None:
    made = Models.from_settings(Settings(), web, {})
    assert [model.name for model in made.table] == ["builtin"]
    assert [choice.model.name for choice in made.candidates("auto", "local")] == ["builtin"]


# ---------------------------------------------------------------- a local Ollama


async def test_a_local_ollama_is_found(web: Web, provider: FakeModel) -> None:
    provider.set("llama3:8b", tokens=3)
    provider.set("nomic-embed-text", tokens=3)
    environ = {"OLLAMA_HOST": f"0.0.0.0:{provider.port}"}
    made = await Models.open(Settings(), web, environ)
    found, builtin = made.table
    assert (found.name, found.self_hosted, builtin.name) == ("llama3:8b", True, "builtin")
    assert found.price == Price(Decimal(0), Decimal(0))
    assert [choice.model.name for choice in made.candidates("auto", "local")] == ["llama3:8b"]


async def test_configured_models_are_all_there_is(web: Web, provider: FakeModel) -> None:
    environ = {"OLLAMA_HOST": f"127.0.0.1:{provider.port}"}
    rows = [ModelSettings(name="m", self_hosted=True, base_url="http://127.0.0.1:9/v1")]
    made = await Models.open(Settings(models=rows), web, environ)
    assert [model.name for model in made.table] == ["m", "builtin"]


async def test_nobody_there_or_somebody_else(web: Web, provider: FakeModel) -> None:
    start = time.monotonic()
    made = await Models.open(Settings(), web, NOBODY)
    assert [model.name for model in made.table] == ["builtin"]

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side gives up
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made = await Models.open(Settings(), web, {"OLLAMA_HOST": f"http://127.0.0.1:{port}"})
    assert [model.name for model in made.table] == ["builtin"]
    assert time.monotonic() - start < 1.5
    server.close()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434/v1"),
        ("box", "http://box:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("box:99", "http://box:99/v1"),
        ("https://box", "https://box/v1"),
        ("http://box:99/", "http://box:99/v1"),
    ],
)
def test_ollamas_own_variable(host: str, url: str) -> None:
    assert models.ollama_url({"OLLAMA_HOST": host} if host else {}) == url


# ---------------------------------------------------------------- prices


def test_the_settings_price_wins(web: Web) -> None:
    made = table(
        web,
        {"name": "m", "model": "gpt-5-mini", "input_usd_per_mtok": "3", "output_usd_per_mtok": 9},
    )
    assert made.cost(made.table[0], Usage(1_000_000, 500_000)) == Decimal("7.5")


def test_one_side_of_the_price_may_be_overridden(web: Web) -> None:
    listed = table(web, {"name": "m", "model": "gpt-5-mini"}).table[0].price
    mixed = table(web, {"name": "m", "model": "gpt-5-mini", "input_usd_per_mtok": 3}).table[0].price
    assert listed is not None
    assert mixed is not None
    assert (mixed.input, mixed.output) == (Decimal(3), listed.output)


def test_the_table_knows_the_price(web: Web) -> None:
    made = table(web, {"name": "m", "model": "gpt-4o-mini", "api_key_env": "K"})
    assert made.cost(made.table[0], Usage(1_000_000, 1_000_000)) == Decimal("0.75")


def test_self_hosted_is_free_and_an_unknown_price_is_none(web: Web) -> None:
    made = table(
        web,
        {"name": "own", "model": "gpt-4o-mini", "self_hosted": True},
        {"name": "odd", "model": "nobody-knows-this-one", "base_url": "http://127.0.0.1:9/v1"},
    )
    own, odd, builtin = made.table
    assert made.cost(own, Usage(1000, 1000)) == 0
    assert made.cost(odd, Usage(1000, 1000)) is None
    assert made.cost(builtin, Usage(1000, 1000)) == 0
    assert made.cost(own, None) is None


def test_a_long_input_pays_the_higher_tier(web: Web) -> None:
    made = table(
        web,
        {
            "name": "m",
            "model": "gemini-2.5-pro",
            "base_url": "https://generativelanguage.googleapis.com/v1beta/openai",
        },
    )
    model = made.table[0]
    assert model.price is not None
    assert model.price.tiered
    small, large = made.cost(model, Usage(100_000, 0)), made.cost(model, Usage(300_000, 0))
    assert small is not None
    assert large is not None
    assert large > small * 3


def test_a_cost_is_cheap_to_compute(web: Web) -> None:
    made = table(web, {"name": "m", "model": "gpt-5-mini"})
    usage = Usage(1000, 500)
    start = time.process_time()
    for _ in range(10_000):
        made.cost(made.table[0], usage)
    assert (time.process_time() - start) / 10_000 < 20e-6
