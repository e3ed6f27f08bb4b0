"""Models through the dashboard: what test_settings.py leaves out."""

from callers import make_key
from servers import InProcess

from lantern.dashboard.pages import model_table

from .browser import signed_in

MODELS = "/dashboard/settings/models"


async def test_no_secret_of_a_model_is_on_the_page(dsn, tenant, tmp_path, monkeypatch):
    monkeypatch.setenv("DASHBOARD_TEST_KEY", "sk-not-for-eyes")
    row = {"name": "far", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "DASHBOARD_TEST_KEY"}
    with InProcess(dsn, data_dir=tmp_path, models=[{**row, "abilities": ["json"]}]) as other:
        async with signed_in(other, tenant) as browser:
            page = (await browser.get(MODELS)).text
            checked = (await browser.submit(f"{MODELS}/check", model="far")).text
    assert "DASHBOARD_TEST_KEY is set" in page
    assert "json" in page
    assert "set input_usd_per_mtok" in page  # its price is not known
    assert "sk-not-for-eyes" not in page + checked


def test_an_address_shows_no_name_and_password():
    assert model_table._host("http://me:secret@127.0.0.1:11434/v1") == "127.0.0.1:11434"
    assert model_table._host("http://[::1]:9/v1") == "[::1]:9"
    assert model_table._host("") == ""


async def test_a_failure_stays_on_the_page_with_its_kind_and_its_rest(dsn, tenant, tmp_path):
    row = {"name": "shut", "base_url": "http://127.0.0.1:9/v1"}
    with InProcess(dsn, data_dir=tmp_path, models=[row]) as other:
        async with signed_in(other, tenant) as browser:
            assert "not asked yet" in (await browser.get(MODELS)).text
            checked = (await browser.submit(f"{MODELS}/check", model="shut")).text
            page = (await browser.get(MODELS)).text
    assert "check `base_url`" in checked
    assert "not asked yet" not in page
    assert "failed" in page


async def test_without_a_model_the_page_says_what_to_set(dsn, tenant, tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with InProcess(dsn, data_dir=tmp_path, models=[]) as other:
        async with signed_in(other, tenant) as browser:
            page = (await browser.get(MODELS)).text
    assert "No language model is configured" in page
    assert "Check now" not in page


async def test_a_key_that_may_only_read_spends_no_tokens_on_a_check(server, db, tenant):
    async with signed_in(server, tenant, await make_key(db, tenant.id, scopes=["read"])) as reader:
        assert "Check now" not in (await reader.get(MODELS)).text
        assert (await reader.submit(f"{MODELS}/check", model="small")).status_code == 403
