"""The table of models: from `[[models]]`, else found in the environment, the built-in one last."""

import asyncio
from collections.abc import Iterable, Mapping

import aiohttp
import orjson
from yarl import URL

from lantern.core.errors import BadRequest
from lantern.core.web import Web
from lantern.llm import anthropic, builtin, openai, prices
from lantern.llm.router import CAPABILITIES
from lantern.llm.types import Model, Protocol
from lantern.settings import ModelSettings

OPENAI_MODEL = "gpt-5-mini"
ANTHROPIC_MODEL = "claude-haiku-4-5"
OLLAMA = "127.0.0.1:11434"

_PROBE_SECONDS = 0.3
_PROBE_BYTES = 1_000_000
_MOST_FOUND = 50
_DEFAULT_URL = {"openai": openai.DEFAULT_URL, "anthropic": anthropic.DEFAULT_URL}

BUILTIN = Model(
    name=builtin.NAME,
    protocol="builtin",
    base_url="",
    provider_model=builtin.PROVIDER_MODEL,
    self_hosted=True,
    abilities=frozenset({"json"}),
    price=prices.FREE,
)


def configured(settings: Iterable[ModelSettings]) -> list[Model]:
    """The models of `[[models]]`, in their order. Raises ValueError naming the wrong row."""
    models: list[Model] = []
    for row in settings:
        if row.name in {model.name for model in models}:
            raise ValueError(f"[[models]] '{row.name}': the name is there twice")
        if row.name in CAPABILITIES:
            raise ValueError(f"[[models]] '{row.name}': the name means a choice of models")
        if row.protocol == "builtin":
            models.append(_builtin(row))
            continue
        models.append(prices.fill(_remote(row), row.input_usd_per_mtok, row.output_usd_per_mtok))
    return models


def from_environment(environ: Mapping[str, str]) -> list[Model]:
    """The models whose keys the environment holds, under the variables their own tools use."""
    found = []
    if environ.get("OPENAI_API_KEY") or environ.get("OPENAI_BASE_URL"):
        found.append(_found("openai", "OPENAI", OPENAI_MODEL, environ))
    if environ.get("ANTHROPIC_API_KEY"):
        found.append(_found("anthropic", "ANTHROPIC", ANTHROPIC_MODEL, environ))
    return [prices.fill(model, None, None) for model in found]


async def discover(web: Web, environ: Mapping[str, str]) -> list[Model]:
    """The models of a local Ollama; empty when there is none or it takes over 0.3 s to say so."""
    base = ollama_url(environ)
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            async with web.trusted.get(URL(f"{base}/models"), allow_redirects=False) as response:
                body = await response.content.read(_PROBE_BYTES)
        names = [str(row["id"]) for row in orjson.loads(body)["data"]]
    except (aiohttp.ClientError, OSError, BadRequest, ValueError, LookupError, TypeError):
        return []
    return [
        Model(
            name=name,
            protocol="openai",
            base_url=base,
            provider_model=name,
            self_hosted=True,
            price=prices.FREE,
        )
        for name in names[:_MOST_FOUND]
        if "embed" not in name  # such a model makes vectors, not text
    ]


def ollama_url(environ: Mapping[str, str]) -> str:
    """Where Ollama is: `OLLAMA_HOST` as Ollama itself reads it, or its usual port."""
    host = environ.get("OLLAMA_HOST", "").strip().rstrip("/") or OLLAMA
    host = host if "://" in host else f"http://{host}"
    url = URL(host)
    if url.host == "0.0.0.0":  # noqa: S104 - what it listens on, not where it is reached
        url = url.with_host("127.0.0.1")
    if url.explicit_port is None and url.scheme == "http":
        url = url.with_port(11434)
    return f"{str(url).rstrip('/')}/v1"


def _remote(row: ModelSettings) -> Model:
    base = (row.base_url or _DEFAULT_URL[row.protocol]).rstrip("/")
    _check_address(row.name, base)
    return Model(
        name=row.name,
        protocol=row.protocol,
        base_url=base,
        provider_model=row.model or row.name,
        api_key_env=row.api_key_env,
        self_hosted=row.self_hosted,
        abilities=frozenset(row.abilities),
        first_token_timeout=row.first_token_timeout,
        idle_timeout=row.idle_timeout,
    )


def _builtin(row: ModelSettings) -> Model:
    return Model(
        name=row.name,
        protocol="builtin",
        base_url="",
        provider_model=builtin.PROVIDER_MODEL,
        self_hosted=True,
        abilities=BUILTIN.abilities,
        price=prices.FREE,
        pace=row.pace_ms / 1000,
    )


def _found(protocol: Protocol, prefix: str, default: str, environ: Mapping[str, str]) -> Model:
    name = environ.get(f"{prefix}_MODEL") or default
    base = (environ.get(f"{prefix}_BASE_URL") or _DEFAULT_URL[protocol]).rstrip("/")
    _check_address(name, base)
    key = f"{prefix}_API_KEY"
    return Model(
        name=name,
        protocol=protocol,
        base_url=base,
        provider_model=name,
        api_key_env=key if environ.get(key) else None,
    )


def _check_address(name: str, base: str) -> None:
    """A wrong address is the operator's to mend, so it is told at the start."""
    try:
        url = URL(base)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"model '{name}': base_url is not an http or https address")
    if url.user is not None or url.password is not None:
        raise ValueError(f"model '{name}': base_url holds credentials; name api_key_env instead")
