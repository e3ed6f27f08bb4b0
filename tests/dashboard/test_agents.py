"""Agents through the dashboard: the rules are the API's."""

from .browser import signed_in

FIELDS = {"model": "auto", "privacy_level": "standard"}


async def test_an_agent_is_made_shown_changed_paused_and_archived(server, tenant, api):
    async with signed_in(server, tenant) as browser:
        made = await browser.submit(
            "/dashboard/agents/new",
            name="clerk",
            description="Sorts <b>things</b>",
            system_prompt="Be brief.",
            max_steps="5",
            labels="team=emea\nowner=ann",
            **FIELDS,
        )
        assert made.headers["location"] == "/dashboard/agents/clerk"
        agent = (await api.get("/v1/agents/clerk")).json()
        assert agent["guardrails"]["max_steps"] == 5
        assert agent["labels"] == {"team": "emea", "owner": "ann"}
        page = (await browser.get("/dashboard/agents/clerk")).text
        assert "Sorts &lt;b&gt;things&lt;/b&gt;" in page
        assert "try it" in page  # what the action has said, once
        assert "is there: try it" not in (await browser.get("/dashboard/agents/clerk")).text

        form = (await browser.get("/dashboard/agents/clerk/edit")).text
        assert "team=emea" in form
        assert 'value="5"' in form
        await browser.submit("/dashboard/agents/clerk/edit", system_prompt="Be long.", **FIELDS)
        agent = (await api.get("/v1/agents/clerk")).json()
        assert (agent["system_prompt"], agent["description"], agent["labels"]) == (
            "Be long.",
            "",
            {},
        )
        assert agent["guardrails"]["max_steps"] == 20

        await browser.submit("/dashboard/agents/clerk/status", status="paused")
        assert (await api.get("/v1/agents/clerk")).json()["status"] == "paused"
        refused = await browser.submit("/dashboard/agents/clerk/runs", input="hello")
        assert refused.status_code == 409
        assert "is paused" in refused.text
        assert ">hello</textarea>" in refused.text  # what was typed is not lost

        gone = await browser.submit("/dashboard/agents/clerk/archive")
        assert gone.headers["location"] == "/dashboard/agents"
        assert (await browser.get("/dashboard/agents/clerk")).status_code == 404


async def test_a_wrong_field_is_named_and_nothing_typed_is_lost(server, tenant):
    async with signed_in(server, tenant) as browser:
        wrong = {
            "name": ({"name": "Not A Name"}, "name-fault"),
            "model": ({"name": "a", "model": "no-such"}, "model-fault"),
            "max_steps": ({"name": "a", "max_steps": "0"}, "max_steps-fault"),
            "labels": ({"name": "a", "labels": "no equals sign"}, "labels-fault"),
            "reserved": ({"name": "batches"}, "name-fault"),
        }
        for fields, mark in wrong.values():
            sent = {"description": "kept & safe", **FIELDS, **fields}
            answer = await browser.submit("/dashboard/agents/new", **sent)
            assert answer.status_code == 400, fields
            assert f'id="{mark}"' in answer.text, fields
            assert "kept &amp; safe" in answer.text
        await browser.submit("/dashboard/agents/new", name="taken", **FIELDS)
        again = await browser.submit("/dashboard/agents/new", name="taken", **FIELDS)
        assert again.status_code == 409
        assert "already exists" in again.text


async def test_an_agent_that_cannot_run_yet_says_why(server, tenant):
    async with signed_in(server, tenant) as browser:
        await browser.submit("/dashboard/agents/new", name="shy", block_pii="on", **FIELDS)
        page = (await browser.get("/dashboard/agents/shy")).text
        assert "guardrails.block_pii" in page
        assert (await browser.submit("/dashboard/agents/shy/runs", input="x")).status_code == 409


async def test_the_list_counts_what_agents_did_and_finds_them_by_name(server, tenant, api):
    async with signed_in(server, tenant) as browser:
        for name in ("north", "south"):
            await browser.submit(
                "/dashboard/agents/new", name=name, model="small", privacy_level="standard"
            )
        await api.post("/v1/agents/north/runs", json={"input": {"a": "b"}})
        listed = (await browser.get("/dashboard/agents")).text
        assert listed.index("/agents/south") < listed.index("/agents/north")
        found = (await browser.get("/dashboard/agents?q=SOU")).text
        assert "/agents/south" in found
        assert "/agents/north" not in found
        assert "No agent is called that" in (await browser.get("/dashboard/agents?q=zzz")).text
        palette = (await browser.get("/dashboard/find?q=nor")).text
        assert "/dashboard/agents/north" in palette


async def test_plain_words_and_json_start_a_run(server, tenant, api):
    async with signed_in(server, tenant) as browser:
        await browser.submit(
            "/dashboard/agents/new", name="doer", model="small", privacy_level="standard"
        )
        for text, expected in (("hello", {"input": "hello"}), ('{"topic": "x"}', {"topic": "x"})):
            sent = await browser.submit("/dashboard/agents/doer/runs", input=text)
            assert sent.status_code == 303
            run_id = sent.headers["location"].rpartition("/")[2]
            assert (await api.get(f"/v1/runs/{run_id}")).json()["input"] == expected
        for text in ("", "{broken", '{"a": '):
            sent = await browser.submit("/dashboard/agents/doer/runs", input=text)
            assert sent.status_code == 400
            assert 'id="input-fault"' in sent.text
