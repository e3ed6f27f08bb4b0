"""A model server on a real socket, and models that call it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from lantern.core.web import Web
from lantern.llm import Chunk, Done, Limits, Message, Models, Tool, ToolCall
from lantern.settings import ModelSettings, NetSettings, Settings
from lantern_dev.model import FakeModel

HELLO = [Message("user", "hello")]


@pytest.fixture
async def provider() -> AsyncIterator[FakeModel]:
    """A fresh fake provider."""
    async with FakeModel() as running:
        yield running


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web(NetSettings())
    await web.open()
    yield web
    await web.close()


@pytest.fixture
async def models(provider: FakeModel, web: Web) -> AsyncIterator[Models]:
    """`openai` and `anthropic`, both at the fake provider, then the builtin."""
    models = Models.from_settings(settings(provider), web, {})
    yield models
    await models.close()


def settings(provider: FakeModel, **more: Any) -> Settings:
    rows: list[ModelSettings] = [
        ModelSettings(name=name, protocol=name, base_url=provider.url, self_hosted=True, **more)
        for name in ("openai", "anthropic")
    ]
    return Settings(models=rows)


@dataclass
class Said:
    """A whole answer."""

    deltas: list[str] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    done: Done | None = None

    @property
    def text(self) -> str:
        return "".join(self.deltas)


async def ask(
    models: Models,
    name: str,
    messages: Sequence[Message] = HELLO,
    tools: Sequence[Tool] = (),
    limits: Limits | None = None,
) -> Said:
    """Read an answer to its end."""
    model = next(model for model in models.table if model.name == name)
    said = Said()
    async with aclosing(models.stream(model, messages, tools, limits)) as chunks:
        async for chunk in chunks:
            said.chunks.append(chunk)
            said.deltas += chunk.deltas
            said.calls += chunk.tool_calls
            said.done = chunk.done or said.done
    return said
