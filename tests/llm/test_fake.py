"""The fake model server itself: how it is told what to do, and as a process of its own."""

import asyncio
import sys

import aiohttp
import pytest

from lantern_dev.model import FakeModel, text, words


def test_its_text_never_changes() -> None:
    assert words(3) == ["w0", " w1", " w2"]
    assert text(3) == "w0 w1 w2"


async def test_it_is_told_by_name_by_call_and_over_http(provider: FakeModel) -> None:
    provider.set(tokens=9)
    provider.set("own", fault="429", times=1)
    assert provider.behaviour("any").tokens == 9
    assert provider.behaviour("any:tokens=4;fault=half;inter_ms=2.5").tokens == 4
    assert [provider.behaviour("own").fault for _ in range(2)] == ["429", None]
    async with aiohttp.ClientSession() as session:
        control = provider.url.replace("/v1", "/ctl")
        async with session.post(control, json={"model": "own", "fault": 500}) as answer:
            assert (await answer.json())["models"]["own"]["fault"] == "500"
        for wrong in ({"fault": "flood"}, {"colour": "red"}, {"tokens": "many"}):
            async with session.post(control, json=wrong) as answer:
                assert answer.status == 400
        async with session.get(control) as answer:
            assert (await answer.json())["tokens"] == 9
        async with session.post(control, json={"reset": True}) as answer:
            assert (await answer.json())["tokens"] == 50
        async with session.get(provider.url + "/nowhere") as answer:
            assert answer.status == 404
        async with session.post(
            provider.url + "/chat/completions", json={"model": "m:fault=flood"}
        ) as answer:
            assert answer.status == 400


def test_a_fault_nobody_knows(provider: FakeModel) -> None:
    with pytest.raises(ValueError, match="garbage"):
        provider.set(fault="flood")


async def test_it_runs_as_a_process() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lantern_dev.model", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        async with aiohttp.ClientSession() as session, session.get(f"{url}/models") as answer:
            assert (await answer.json())["data"][0]["id"] == "fake"
    finally:
        process.terminate()
        await process.communicate()
