"""What goes wrong inside a page: told to the person by a request's id, to the log without a row."""

import structlog

from lantern.dashboard.pages import runs as page

from .browser import signed_in

PERSON = "@".join(["ann", "example.com"])


async def test_a_database_error_shows_and_logs_no_row(server, tenant, monkeypatch):
    async def broken(view):
        await view.tx.run("select %s::text::int", (PERSON,))

    monkeypatch.setattr(page, "_table", broken)
    with structlog.testing.capture_logs() as lines:
        async with signed_in(server, tenant) as browser:
            answer = await browser.get("/dashboard/runs")
            assert answer.status_code == 500
            assert "req_" in answer.text
            assert PERSON not in answer.text
            assert (await browser.get("/dashboard/agents")).status_code == 200
    (told,) = [line for line in lines if line["event"] == "dashboard.failed"]
    assert told["sqlstate"] == "22P02"
    assert PERSON not in str(told)
