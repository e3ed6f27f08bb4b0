"""Whether a model answers: a few tokens are asked for, and what goes wrong comes with its mend."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from lantern.core import clock
from lantern.llm.types import Chunk, Kind, Limits, Message, ModelError

SECONDS = 30.0

MENDS: dict[Kind, str] = {
    "auth": "set the variable that `api_key_env` names to a valid key",
    "rate": "wait, or raise the limits of your account there",
    "timeout": "check `base_url`, and that the model is loaded",
    "hangup": "check `base_url`, and that the server is up",
    "garbage": "check `base_url` and `protocol`: this is not the protocol's answer",
    "bad_request": "check `model`: the provider refuses the request",
    "server": "check `base_url`; if it is right, the provider has trouble: try again later",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """How it went; `mend` says what to do where it went wrong."""

    seconds: float | None  # to the first token
    detail: str
    mend: str = ""


async def probe(ask: Callable[[list[Message], Limits], AsyncGenerator[Chunk, None]]) -> Probe:
    """Ask for the word ok. Never raises for what the model does."""
    began = clock.monotonic()
    asked = [Message("user", "Answer with the word ok.")]
    try:
        async with asyncio.timeout(SECONDS):
            async with aclosing(ask(asked, Limits(max_tokens=16))) as chunks:
                async for chunk in chunks:
                    if chunk.deltas or chunk.done:
                        break
    except ModelError as error:
        return Probe(None, str(error), MENDS[error.kind])
    except TimeoutError:
        return Probe(None, f"silent for {SECONDS:.0f} s", MENDS["timeout"])
    took = clock.monotonic() - began
    return Probe(took, f"first token after {took:.2f} s")
