"""The built-in model: quotes, plans, JSON, notes; never words of its own about the matter."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lantern.core.web import Web
from lantern.llm import PLAN_CUE, Limits, Message, Models, builtin
from lantern.llm.material import MAX_CHARS
from lantern.settings import Settings

from .conftest import Said, ask

NORTHWIND = {
    "title": "Northwind Robotics: profile",
    "text": "Northwind Robotics builds warehouse robots. It was founded in 2014 in Oslo. The company "
    "employs 420 people. In March 2026 it raised a Series C of $85 million led by Halden Capital. "
    "Its customers are Dr. Olsen Foods Inc. and Fjord Logistics.",
}
HARBOR = {
    "title": "Harbor Analytics: news",
    "text": "Harbor Analytics sells pricing software.\n- It raised $12.5 million in 2025.\n"
    "It has no office outside Lisbon. Write to marta@harbor.example.",
}
DOCUMENTS = [NORTHWIND, HARBOR]


@pytest.fixture
def models(web: Web) -> Models:
    return Models.from_settings(Settings(), web, {})


def asked(question: str, **more: Any) -> Message:
    return Message("user", json.dumps({"question": question, "documents": DOCUMENTS, **more}))


async def answer(models: Models, *messages: Message, max_tokens: int = 4096) -> Said:
    return await ask(models, "builtin", messages, limits=Limits(max_tokens=max_tokens))


def quotes(text: str) -> list[str]:
    return re.findall(r"^> “(.*)”$", text, re.MULTILINE)


async def test_it_quotes_what_fits_and_names_the_source(models: Models) -> None:
    said = await answer(models, asked("How much did Northwind Robotics raise, who led it?"))
    assert said.text.startswith("From **Northwind Robotics: profile**:\n\n> “")
    assert "In March 2026 it raised a Series C of $85 million led by Halden Capital." in quotes(
        said.text
    )
    written = " ".join(document["text"] for document in DOCUMENTS)
    assert all(quote in written for quote in quotes(said.text))


async def test_it_says_what_it_is(models: Models) -> None:
    said = await answer(models, asked("Who led the round?"))
    assert said.done is not None
    assert said.done.finish_reason == "stop"
    assert "no language model is configured" in said.done.notes["notice"]
    assert said.done.usage is not None
    assert said.done.usage.output == len(said.deltas)
    assert said.done.usage.input > 50
    assert models.cost(models.table[0], said.done.usage) == 0


async def test_it_streams_word_by_word(models: Models) -> None:
    said = await answer(models, asked("Who led the round?"))
    assert all(len(chunk.deltas) == 1 for chunk in said.chunks[:-1])
    assert all(len(delta.split()) == 1 for delta in said.deltas)


async def test_it_stops_at_the_limit(models: Models) -> None:
    said = await answer(models, asked("Who led the round?"), max_tokens=3)
    assert len(said.deltas) == 3
    assert said.done is not None
    assert said.done.finish_reason == "length"


async def test_the_same_input_gives_the_same_answer(models: Models) -> None:
    first = await answer(models, asked("What did they raise?"))
    assert first.text == (await answer(models, asked("What did they raise?"))).text


async def test_a_sentence_does_not_end_at_an_abbreviation(models: Models) -> None:
    said = await answer(models, asked("Which customers does it have?"))
    assert quotes(said.text) == ["Its customers are Dr. Olsen Foods Inc. and Fjord Logistics."]


async def test_nothing_fits(models: Models) -> None:
    said = await answer(models, asked("What about giraffes?"))
    assert quotes(said.text) == []
    assert "What about giraffes?" in said.text


async def test_nothing_to_quote(models: Models) -> None:
    said = await answer(models, Message("user", "Explain gravity"))
    assert "There is no text in the input" in said.text


async def test_a_plan(models: Models) -> None:
    said = await answer(models, asked("Who led the round?"), Message("user", PLAN_CUE))
    lines = said.text.splitlines()
    assert [line.split(".")[0] for line in lines] == [str(n) for n in range(1, len(lines) + 1)]
    assert "2. Read “Northwind Robotics: profile”." in lines
    assert lines[-1].endswith("Who led the round?")


async def test_after_the_plan_comes_the_answer(models: Models) -> None:
    follow = Message("user", "Follow this plan:\n1. Look for: led, round.")
    for turns in (
        [follow],
        [Message("user", PLAN_CUE), Message("assistant", "1. Look."), Message("user", "Go on.")],
    ):
        said = await answer(models, asked("Who led the Series C?"), *turns)
        assert "Halden Capital" in quotes(said.text)[0]


async def test_headings_of_a_plain_text_make_documents(models: Models) -> None:
    said = await answer(
        models,
        Message(
            "user",
            "Who barks at night?\n\n# Cats\nCats sleep all day.\n# Dogs\nDogs bark at night.",
        ),
    )
    assert said.text == "From **Dogs**:\n\n> “Dogs bark at night.”"


async def test_a_long_plain_text_is_its_own_document(models: Models) -> None:
    filler = "Nothing of interest happens in this sentence at all. " * 12
    text = f"{filler}\nThe treasure lies under the old oak.\n\nWhere does the treasure lie?"
    said = await answer(models, Message("user", text))
    assert quotes(said.text) == ["The treasure lies under the old oak."]


async def test_what_tools_found_is_quoted(models: Models) -> None:
    found = json.dumps({"results": [{"title": "Page", "snippet": "Oslo has 700000 inhabitants."}]})
    said = await answer(
        models,
        Message("user", "How many inhabitants has Oslo?"),
        Message("assistant", ""),
        Message("tool", found, tool_call_id="t"),
    )
    assert said.text == "From **Page**:\n\n> “Oslo has 700000 inhabitants.”"


async def test_a_json_schema_is_filled(models: Models) -> None:
    schema = {
        "type": "object",
        "properties": {
            "employees": {"type": "integer"},
            "raisedUsdMillion": {"type": "number", "description": "raised Series C, million"},
            "stage": {"enum": ["seed", "Series C"]},
            "other_office": {"type": "boolean", "description": "office outside Lisbon"},
            "email": {"type": "string", "format": "email"},
            "customers": {"type": "array", "items": {"type": "string"}},
            "zebra": {"type": ["string", "null"]},
            "people": {"type": "object", "properties": {"founded": {"type": "integer"}}},
        },
    }
    system = Message("system", f"Answer as JSON by this schema: {json.dumps(schema)}")
    said = await answer(models, system, asked("Tell me about Northwind Robotics"))
    assert json.loads(said.text) == {
        "employees": 420,
        "raisedUsdMillion": 85,
        "stage": "Series C",
        "other_office": False,
        "email": "",  # the only one belongs to the other company
        "customers": ["Its customers are Dr. Olsen Foods Inc. and Fjord Logistics."],
        "zebra": None,
        "people": {"founded": 2014},
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "enum", "properties", "format", "description", "company", "a"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(schema=st.dictionaries(st.text(max_size=5), JSON, max_size=4))
@settings(max_examples=150)
async def test_no_schema_breaks_it(schema: Any) -> None:
    written = json.dumps({"type": "object", "properties": schema})
    said = [
        delta
        async for chunk in builtin.stream([Message("system", written), asked("robots")], Limits())
        for delta in chunk.deltas
    ]
    assert isinstance(json.loads("".join(said)), dict)


async def test_a_schema_that_nests_without_end_has_a_bound(models: Models) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(6):
        schema = {"type": "object", "properties": {f"f{n}": schema for n in range(4)}}
    said = await answer(models, Message("system", json.dumps(schema)), asked("robots"))
    assert said.text.count('"f') <= 100


@given(text=st.text(max_size=300))
async def test_no_prompt_breaks_it(text: str) -> None:
    for messages in (
        [Message("user", text)],
        [Message("user", json.dumps({"question": text, "documents": [{"text": text}]}))],
        [Message("tool", text)],
        [],
    ):
        done = [chunk.done async for chunk in builtin.stream(messages, Limits())][-1]
        assert done is not None


async def test_a_huge_input_is_cut_and_said_so(models: Models) -> None:
    documents = [{"title": f"d{n}", "text": f"Number {n} is here. " * 800} for n in range(30)]
    said = await answer(
        models, Message("user", json.dumps({"question": "number 3", "documents": documents}))
    )
    assert said.text == "From **d3**:\n\n> “Number 3 is here.”"
    assert said.done is not None
    assert str(MAX_CHARS) in said.done.notes["cut"]


@pytest.mark.parametrize("text", ["[" * 5000, '{"properties": ' * 3000, '{"a": ' * 3000])
async def test_deep_nesting_is_no_trap(models: Models, text: str) -> None:
    assert (await answer(models, Message("user", text))).done is not None
