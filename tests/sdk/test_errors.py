"""Both error bodies, and what is neither, become the right error with all it says."""

import json
import pickle

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lantern_sdk
from lantern_sdk import LanternAPIError, RateLimit, ServerError, _problems
from lantern_sdk._errors import api_error

FIELDS = st.sampled_from(
    ["error", "code", "message", "request_id", "details", "retry_after", "credits_required"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=8,
)
CLASSES = {
    400: lantern_sdk.BadRequest,
    401: lantern_sdk.Unauthorized,
    402: lantern_sdk.InsufficientCredits,
    403: lantern_sdk.Forbidden,
    404: lantern_sdk.NotFound,
    405: LanternAPIError,
    409: lantern_sdk.Conflict,
    413: lantern_sdk.TooLarge,
    418: LanternAPIError,
    429: lantern_sdk.RateLimited,
    500: ServerError,
    502: lantern_sdk.UpstreamError,
    503: ServerError,
    504: lantern_sdk.UpstreamError,
}


def error(status: int, **response) -> LanternAPIError:
    return api_error(_problems.read(httpx.Response(status, **response)))


@pytest.mark.parametrize("status", CLASSES)
def test_the_status_chooses_the_class(status):
    assert type(error(status)) is CLASSES[status]


def test_a_nested_body():
    said = {
        "code": "not_found",
        "message": "Agent 'a' not found",
        "request_id": "req_1",
        "details": [1],
    }
    wrong = error(404, json={"error": said})
    assert (wrong.status, wrong.code, wrong.message) == (404, "not_found", "Agent 'a' not found")
    assert (wrong.request_id, wrong.details) == ("req_1", [1])
    assert str(wrong) == "Agent 'a' not found (404 not_found, req_1)"


def test_a_flat_body():
    body = {
        "success": False,
        "error": "Not enough credits for this request",
        "code": "insufficient_credits",
        "details": {"reason": "account_balance"},
        "request_id": "req_2",
        "credits_required": 5,
        "credits_remaining": 2.5,
        "retry_after": None,
    }
    wrong = error(402, json=body)
    assert isinstance(wrong, lantern_sdk.InsufficientCredits)
    assert (wrong.message, wrong.code) == (body["error"], "insufficient_credits")
    assert (wrong.credits_required, wrong.credits_remaining) == (5, 2.5)
    assert (wrong.request_id, wrong.details) == ("req_2", {"reason": "account_balance"})


def test_the_short_flat_body_takes_its_code_from_the_status():
    wrong = error(401, json={"success": False, "error": "no"}, headers={"X-Request-ID": "req_3"})
    assert (wrong.code, wrong.message, wrong.request_id) == ("unauthorized", "no", "req_3")


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        ({"error": "slow down", "retry_after": 7}, {}, 7),
        ({"error": {"message": "slow down"}}, {"Retry-After": "3"}, 3),
        ({"error": "slow down", "retry_after": 7}, {"Retry-After": "3"}, 3),
        ({"error": "slow down", "retry_after": 7}, {"Retry-After": "soon"}, 7),
        ({"error": "slow down", "retry_after": -1}, {}, None),
    ],
)
def test_when_to_come_back(body, headers, seconds):
    wrong = error(429, json=body, headers=headers)
    assert isinstance(wrong, lantern_sdk.RateLimited)
    assert wrong.retry_after == seconds


def test_the_bucket_is_on_the_error():
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    wrong = error(429, headers=dict(zip(names, ("60", "0", "1700000000"), strict=True)))
    assert wrong.rate_limit == RateLimit(60, 0, 1700000000)
    assert wrong.rate_limit.reset_at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert error(429, headers={names[0]: "many"}).rate_limit is None


def test_a_proxy_s_page_is_an_error_too():
    wrong = error(502, text="<html>Bad Gateway</html>")
    assert (wrong.code, wrong.message) == ("upstream_error", "HTTP 502 Bad Gateway")


@settings(deadline=None)
@given(JSON, st.sampled_from(sorted(CLASSES)))
def test_no_body_breaks_the_reader(body, status):
    wrong = error(status, content=json.dumps(body))
    assert str(wrong)
    assert wrong.status == status


def test_errors_survive_the_way_to_another_process():
    limited = error(429, json={"error": "slow down", "retry_after": 7})
    others = [
        lantern_sdk.StreamInterrupted("run_1", 5),
        lantern_sdk.RunFailed("run_1", "no model", "no_model", "write"),
        lantern_sdk.RunCancelled("run_1"),
    ]
    for wrong in (limited, *others):
        again = pickle.loads(pickle.dumps(wrong))
        assert (type(again), str(again), vars(again)) == (type(wrong), str(wrong), vars(wrong))
