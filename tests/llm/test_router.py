"""Who is asked, and in which order."""

import pytest

from lantern.llm import CAPABILITIES, Model, ModelError, NoModel, UnknownModel
from lantern.llm.models import BUILTIN
from lantern.llm.router import LONGEST_COOLDOWN, Router

A = Model("a", "openai", "http://a/v1", "a")
B = Model("b", "anthropic", "http://b", "b", self_hosted=True)
C = Model("c", "openai", "http://c/v1", "c", self_hosted=True)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def names(router: Router, wanted: str = "auto", privacy: str = "standard") -> list[str]:
    return [choice.model.name for choice in router.candidates(wanted, privacy)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def router(clock: Clock) -> Router:
    return Router([A, B, C, BUILTIN], clock)


@pytest.mark.parametrize("wanted", sorted(CAPABILITIES))
def test_the_configured_order_with_the_builtin_last(router: Router, wanted: str) -> None:
    assert names(router, wanted) == ["a", "b", "c", "builtin"]
    assert all(choice.why and "\n" not in choice.why for choice in router.candidates(wanted))
    assert router.candidates(wanted)[0].why.startswith(wanted)


def test_a_name_means_that_one_alone(router: Router) -> None:
    assert names(router, "b") == ["b"]
    assert names(router, "builtin") == ["builtin"]
    assert router.candidates("b")[0].why == "named: 'b'"


def test_an_unknown_name_lists_the_known_ones(router: Router) -> None:
    with pytest.raises(UnknownModel) as refused:
        router.candidates("gpt-99")
    assert refused.value.status == 400
    assert refused.value.details[0]["loc"] == ["body", "model"]
    assert "auto, a, b, c, builtin" in refused.value.message
    assert not router.known("gpt-99")
    assert router.known("auto")
    assert router.known("b")


def test_local_means_self_hosted(router: Router) -> None:
    assert names(router, privacy="local") == ["b", "c"]
    assert names(router, "builtin", "local") == ["builtin"]
    with pytest.raises(NoModel, match="self_hosted"):
        router.candidates("a", "local")


def test_the_builtin_is_no_secret_way_out_of_local() -> None:
    with pytest.raises(NoModel, match="self_hosted") as none:
        Router([A, BUILTIN]).candidates("auto", "local")
    assert none.value.code == "no_model"
    assert names(Router([BUILTIN]), privacy="local") == ["builtin"]


def test_a_model_that_failed_rests(router: Router, clock: Clock) -> None:
    router.note_error(A, ModelError("a", "rate", "x", retry_after=30))
    assert names(router) == ["b", "c", "a", "builtin"]
    assert "rests 30 s more" in router.candidates("auto")[2].why
    clock.now += 29
    assert names(router)[0] == "b"
    clock.now += 2
    assert names(router)[0] == "a"


@pytest.mark.parametrize("kind", ["auth", "rate", "server", "garbage", "timeout", "hangup"])
def test_every_failure_of_the_provider_counts(router: Router, clock: Clock, kind: str) -> None:
    router.note_error(A, ModelError("a", kind, "x"))  # type: ignore[arg-type]
    assert names(router)[0] == "b"
    clock.now += LONGEST_COOLDOWN
    assert names(router)[0] == "a"


def test_our_own_mistake_does_not_count(router: Router) -> None:
    router.note_error(A, ModelError("a", "bad_request", "x"))
    assert names(router)[0] == "a"


def test_a_provider_cannot_ask_for_a_day(router: Router, clock: Clock) -> None:
    router.note_error(A, ModelError("a", "rate", "x", retry_after=86_400))
    clock.now += LONGEST_COOLDOWN
    assert names(router)[0] == "a"


def test_an_answer_ends_the_rest(router: Router) -> None:
    router.note_error(A, ModelError("a", "server", "x"))
    router.note_ok(A)
    assert names(router)[0] == "a"


def test_when_all_rest_they_are_still_tried_before_the_builtin(router: Router) -> None:
    for model in (A, B, C):
        router.note_error(model, ModelError(model.name, "server", "x"))
    assert names(router) == ["a", "b", "c", "builtin"]


def test_a_named_model_is_asked_even_while_it_rests(router: Router) -> None:
    router.note_error(A, ModelError("a", "server", "x"))
    assert names(router, "a") == ["a"]
