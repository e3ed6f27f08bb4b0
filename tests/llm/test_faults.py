"""What a provider may do wrong: each is a ModelError that says what kind and whether text came."""

import asyncio
import time
from datetime import timedelta
from email.utils import format_datetime

import pytest

from lantern.core import clock
from lantern.core.web import Web
from lantern.llm import Limits, Message, ModelError, Models
from lantern.settings import ModelSettings, Settings
from lantern_dev.model import FakeModel

from .conftest import ask, settings

BOTH = pytest.mark.parametrize("name", ["openai", "anthropic"])
SHORT = Limits(first_token_timeout=0.3, idle_timeout=0.3)


async def failure(models: Models, name: str, limits: Limits | None = None) -> ModelError:
    """The error that a call ends with."""
    with pytest.raises(ModelError) as failed:
        await ask(models, name, [Message("user", "a private prompt")], limits=limits)
    error = failed.value
    assert error.model == name
    assert error.message.startswith(f"model '{name}': ")
    assert "private" not in error.message
    assert "sk-" not in error.message
    assert (error.status, error.code) == (502, "upstream_error")
    return error


@BOTH
@pytest.mark.parametrize(
    ("fault", "kind", "retryable"),
    [
        ("400", "bad_request", False),
        ("401", "auth", False),
        ("403", "auth", False),
        ("404", "bad_request", False),
        ("429", "rate", True),
        ("500", "server", True),
        ("503", "server", True),
        ("529", "server", True),
        ("html", "garbage", True),
        ("garbage", "garbage", True),
        ("nothing", "hangup", True),
        ("close", "hangup", True),
    ],
)
async def test_no_answer(
    models: Models, provider: FakeModel, name: str, fault: str, kind: str, retryable: bool
) -> None:
    provider.set(fault=fault)
    error = await failure(models, name)
    assert (error.kind, error.retryable, error.started) == (kind, retryable, False)
    if fault.isdecimal():
        assert fault in error.message


@BOTH
@pytest.mark.parametrize(
    ("fault", "kind"),
    [("half", "hangup"), ("error", "server"), ("stall", "timeout"), ("nofinish", "hangup")],
)
@pytest.mark.parametrize("inter_ms", [0, 5])
async def test_half_an_answer(
    models: Models, provider: FakeModel, name: str, fault: str, kind: str, inter_ms: float
) -> None:
    provider.set(fault=fault, tokens=10, inter_ms=inter_ms)
    error = await failure(models, name, SHORT)
    assert (error.kind, error.retryable, error.started) == (kind, True, True)


@BOTH
@pytest.mark.parametrize("fault", ["hang", "silent"])
async def test_silence_before_the_first_token(
    models: Models, provider: FakeModel, name: str, fault: str
) -> None:
    provider.set(fault=fault)
    start = time.monotonic()
    error = await failure(models, name, SHORT)
    assert (error.kind, error.retryable, error.started) == ("timeout", True, False)
    assert 0.25 < time.monotonic() - start < 1.0
    await asyncio.sleep(0.05)
    assert provider.counts["aborted"] == 1


async def test_the_timeouts_are_the_models_own_by_default(provider: FakeModel, web: Web) -> None:
    quick = settings(provider, first_token_timeout=0.2, idle_timeout=0.2)
    models = Models.from_settings(quick, web, {})
    provider.set(fault="silent")
    assert (await failure(models, "openai")).kind == "timeout"
    provider.set(fault="stall", tokens=10)
    assert (await failure(models, "openai")).started


async def test_a_slow_but_steady_answer_is_no_timeout(models: Models, provider: FakeModel) -> None:
    provider.set(tokens=8, inter_ms=100)
    said = await ask(models, "openai", limits=Limits(first_token_timeout=0.3, idle_timeout=0.3))
    assert len(said.deltas) == 8


@BOTH
async def test_retry_after_in_seconds_or_as_a_date(
    models: Models, provider: FakeModel, name: str
) -> None:
    provider.set(fault="429", retry_after="7")
    assert (await failure(models, name)).retry_after == 7.0
    later = format_datetime(clock.now() + timedelta(seconds=90), usegmt=True)
    provider.set(fault="503", retry_after=later)
    wait = (await failure(models, name)).retry_after
    assert wait is not None
    assert 80 < wait <= 90
    for odd in ("soon", "-3", "Thu, 99 Foo", "1" * 40):
        provider.set(fault="429", retry_after=odd)
        assert (await failure(models, name)).retry_after is None


@BOTH
async def test_a_key_that_is_not_set_names_its_variable(
    provider: FakeModel, web: Web, name: str
) -> None:
    environ: dict[str, str] = {}
    models = Models.from_settings(settings(provider, api_key_env="MY_KEY"), web, environ)
    error = await failure(models, name)
    assert error.kind == "auth"
    assert "MY_KEY is not set" in error.message
    environ["MY_KEY"] = "sk-two\r\nlines: x"
    error = await failure(models, name)
    assert error.kind == "auth"
    assert "holds no valid key" in error.message
    assert provider.counts["requests"] == 0


async def test_nobody_there(web: Web) -> None:
    row = ModelSettings(name="gone", base_url="http://127.0.0.1:1/v1", self_hosted=True)
    error = await failure(Models.from_settings(Settings(models=[row]), web, {}), "gone")
    assert (error.kind, error.retryable) == ("server", True)
    assert "cannot be reached" in error.message
    assert "127.0.0.1" not in error.message


async def test_a_name_without_address(web: Web) -> None:
    row = ModelSettings(name="lost", base_url="http://no-such-host.invalid/v1", self_hosted=True)
    error = await failure(Models.from_settings(Settings(models=[row]), web, {}), "lost")
    assert error.kind == "server"


async def test_an_address_that_speaks_no_http(web: Web) -> None:
    async def shout(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    row = ModelSettings(name="mail", base_url=f"http://127.0.0.1:{port}", self_hosted=True)
    try:
        error = await failure(Models.from_settings(Settings(models=[row]), web, {}), "mail")
        assert error.kind == "garbage"
    finally:
        server.close()
        await server.wait_closed()


async def test_an_answer_without_end_is_cut_off(models: Models, provider: FakeModel) -> None:
    provider.set(fault="endless")
    error = await failure(models, "openai", Limits(max_tokens=1))
    assert (error.kind, error.started) == ("garbage", True)
    assert "more than was asked" in error.message
    await asyncio.sleep(0.05)
    assert provider.counts["open"] == 0


async def test_a_refusal_is_not_asked_again(models: Models, provider: FakeModel) -> None:
    provider.set(fault="400")
    await failure(models, "openai")
    assert provider.counts["requests"] == 1


async def test_a_fault_makes_the_model_rest_and_an_answer_wakes_it(
    models: Models, provider: FakeModel
) -> None:
    assert models.candidates("auto")[0].model.name == "openai"
    provider.set("openai", fault="429", retry_after="60", times=1)
    await failure(models, "openai")
    first, second, last = models.candidates("auto")
    assert (first.model.name, second.model.name, last.model.name) == (
        "anthropic",
        "openai",
        "builtin",
    )
    assert "rate" in second.why
    await ask(models, "openai")
    assert models.candidates("auto")[0].model.name == "openai"
