"""What a run of an agent does: one step `write`, or `plan` and `write` when documents come."""

import asyncio
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import orjson

from lantern import agents
from lantern.core import kinds
from lantern.core.db import Database
from lantern.core.kinds import RunFailed, Step, StepResult, Work
from lantern.llm import (
    PLAN_CUE,
    Choice,
    Done,
    Limits,
    Message,
    ModelError,
    Models,
)

RETRIES = 2  # rounds over the models after the first, when waiting may help
LONGEST_WAIT = 5.0
STAND_IN = "failed: {}; the built-in extractive model answered by quoting the input"


def register() -> None:
    """Make runs of agents known to the engine."""
    kinds.register("agent", kinds.Kind(execute, first_step))


def first_step(run_input: dict[str, Any]) -> str:
    """The step that begins the run."""
    return "plan" if _documents(run_input) else "write"


async def execute(work: Work) -> dict[str, Any]:
    """Run the steps; returns the run's output."""
    agent = work.run.agent or await _agent(work)
    asker = _Asker(work, agent)
    messages = [Message("user", _prompt(work.run.input))]
    if agent["system_prompt"]:
        messages.insert(0, Message("system", agent["system_prompt"]))
    if _documents(work.run.input):
        cue = Message("user", PLAN_CUE)
        plan = await work.step("plan", lambda step: asker.ask(step, [*messages, cue]))
        messages.append(Message("user", f"Follow this plan:\n{plan.output}"))
    answer = await work.step("write", lambda step: asker.ask(step, messages))
    output: dict[str, Any] = {"text": answer.output, "format": "markdown"}
    if answer.notes:
        output["data"] = answer.notes
    return output


async def _agent(work: Work) -> dict[str, Any]:
    if work.run.agent_id is None:
        raise RunFailed("internal_error", "The run names no agent")
    async with work.part(Database).transaction(work.run.tenant) as tx:
        return await agents.of_run(tx, work.run.agent_id)


def _documents(run_input: dict[str, Any]) -> list[dict[str, str]]:
    """`documents: [{title, text}]` of the input; anything else is no list of documents."""
    found = run_input.get("documents")
    if not isinstance(found, list) or not found:
        return []
    good = all(isinstance(d, dict) and isinstance(d.get("text"), str) for d in found)
    return found if good else []


def _prompt(run_input: dict[str, Any]) -> str:
    """The one text field there is, else the input as JSON."""
    if len(run_input) == 1:
        (only,) = run_input.values()
        if isinstance(only, str):
            return only
    return orjson.dumps(run_input, option=orjson.OPT_INDENT_2).decode()


class _Asker:
    """Model calls of one run: who is asked, what happens when that fails."""

    def __init__(self, work: Work, agent: dict[str, Any]) -> None:
        self.models = work.part(Models)
        self.wanted = str(agent["model"])
        self.privacy = str(agent["privacy_level"])
        most = (agent["guardrails"] or {}).get("max_tokens_per_step", 4096)
        self.limits = Limits(max_tokens=int(most))

    async def ask(self, step: Step, messages: list[Message]) -> StepResult:
        """One answer. Before its first token the next model is asked; after it the step restarts."""
        failures: list[ModelError] = []
        for again in range(RETRIES + 1):
            try:
                return await self._round(step, messages, failures)
            except ModelError as error:
                if again == RETRIES or not error.retryable:
                    raise
                wait = 0.5 * 2**again if error.retry_after is None else error.retry_after
                await asyncio.sleep(min(wait, LONGEST_WAIT))
                if error.started:
                    await step.restart()
        raise failures[-1]

    async def _round(
        self, step: Step, messages: list[Message], failures: list[ModelError]
    ) -> StepResult:
        for choice in self.models.candidates(self.wanted, self.privacy):
            try:
                return await self._call(step, choice, messages, failures)
            except ModelError as error:
                failures.append(error)
                if error.started:
                    raise
        raise failures[-1]

    async def _call(
        self, step: Step, choice: Choice, messages: list[Message], failures: list[ModelError]
    ) -> StepResult:
        model = choice.model
        text: list[str] = []
        done: Done | None = None
        async with aclosing(self.models.stream(model, messages, limits=self.limits)) as chunks:
            async for chunk in chunks:
                if chunk.deltas:
                    text += chunk.deltas
                    step.tokens(chunk.deltas)
                done = chunk.done or done
        why = choice.why
        failed = ", ".join(f"{e.model} ({e.kind})" for e in failures)
        if failures:
            why += f"; after {failed}"
        result = StepResult("".join(text), model_used=model.name, why=why)
        self._count(result, done, choice, messages, len(text))
        if failures and "notice" in result.notes:
            result.notes["notice"] = STAND_IN.format(failed)
        return result

    def _count(
        self,
        result: StepResult,
        done: Done | None,
        choice: Choice,
        messages: list[Message],
        deltas: int,
    ) -> None:
        notes = dict(done.notes) if done else {}
        if done and done.finish_reason != "stop":
            notes["finish_reason"] = done.finish_reason
        usage = done.usage if done else None
        if usage is None:
            # The provider reports nothing: about four characters are a token.
            result.tokens_in = sum(len(m.content) for m in messages) // 4
            result.tokens_out = max(deltas, len(result.output) // 4)
            notes["tokens_estimated"] = True
        else:
            result.tokens_in, result.tokens_out = usage.input, usage.output
            cost = self.models.cost(choice.model, usage)
            result.cost_usd = None if cost is None else Decimal(cost)
        result.notes = notes
