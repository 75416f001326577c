"""The client against a server that does everything wrong: each call ends, in time, by its name."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from pydantic import ValidationError

from teachers.client import Client, Completion, Endpoint
from teachers.errors import BadAnswer, CallRefused, CallUncertain, ConfigError, EndpointBusy
from teachers.records import Call, Message, Sampling
from tests.scripted.running import Scripted

Answer = TypeVar("Answer")
DEADLINE_S = 1.0


def make_call(text: str = "What is 12 + 7?", n: int = 1) -> Call:
    message = Message(role="user", content=text)
    return Call(weights="w", messages=(message,), sampling=Sampling(n=n))


def with_client(
    scripted: Scripted, model: str, do: Callable[[Client], Awaitable[Answer]], retries: int = 1
) -> Answer:
    endpoint = Endpoint(url=scripted.url, model=model, timeout_s=DEADLINE_S, retries=retries)

    async def run() -> Answer:
        async with Client(endpoint) as client:
            return await do(client)

    return asyncio.run(run())


def ask(scripted: Scripted, model: str, call: Call | None = None, retries: int = 1) -> Completion:
    return with_client(scripted, model, lambda client: client.chat(call or make_call()), retries)


FAULTS: list[tuple[str, type[Exception], str]] = [
    ("400", CallRefused, "400"),
    ("401", CallRefused, "401"),
    ("404", CallRefused, "404"),
    ("redirect", CallRefused, "307"),
    ("500", CallUncertain, "500"),
    ("502", CallUncertain, "502"),
    ("silent", CallUncertain, "did not finish"),
    ("drip", CallUncertain, "did not finish"),
    ("drop", CallUncertain, "did not finish"),
    ("hang-up", CallUncertain, "did not finish"),
    ("not-http", CallUncertain, "did not finish"),
    ("endless", BadAnswer, "longer than 16 MiB"),
    ("bomb", BadAnswer, "longer than 16 MiB"),
    ("bad-gzip", BadAnswer, "does not unpack"),
    ("empty", BadAnswer, "protocol"),
    ("not-json", BadAnswer, "protocol"),
    ("not-utf8", BadAnswer, "protocol"),
    ("deep", BadAnswer, "protocol"),
    ("nan", BadAnswer, "protocol"),
    ("no-choices", BadAnswer, "at choices"),
    ("zero-choices", BadAnswer, "where 1 were asked"),
    ("one-choice-too-many", BadAnswer, "where 1 were asked"),
    ("duplicate-index", BadAnswer, "where 1 were asked"),
    ("no-message", BadAnswer, "no message"),
]


@pytest.mark.parametrize(("fault", "error", "words"), FAULTS, ids=[name for name, *_ in FAULTS])
def test_faults_end_in_time_under_their_name_and_are_not_resent(
    scripted: Scripted, fault: str, error: type[Exception], words: str
) -> None:
    began = time.monotonic()
    with pytest.raises(error, match=words):
        ask(scripted, f"fault:{fault}", retries=3)
    assert time.monotonic() - began < DEADLINE_S + 1.0
    assert len(scripted.events("arrived", model=f"fault:{fault}")) == 1


@pytest.mark.parametrize("fault", ["429-nonsense", "503"])
def test_a_busy_endpoint_is_asked_again_until_the_retries_are_used_up(
    scripted: Scripted, fault: str
) -> None:
    with pytest.raises(EndpointBusy, match="3 times"):
        ask(scripted, f"fault:{fault}", retries=2)
    assert len(scripted.events("arrived", model=f"fault:{fault}")) == 3


@pytest.mark.parametrize("fault", ["429", "503"])
def test_a_busy_endpoint_that_recovers_answers(scripted: Scripted, fault: str) -> None:
    completion = ask(scripted, f"fault:{fault}:2", retries=4)
    assert len(completion.samples) == 1
    assert len(scripted.events("arrived", model=f"fault:{fault}:2")) == 3


def test_retry_after_is_waited_for(scripted: Scripted) -> None:
    model = "fault:429:1"
    ask(scripted, model, make_call("wait for me"))
    first, second = scripted.events("arrived", model=model)[-2:]
    assert second["at"] - first["at"] >= 0.3


def test_nobody_may_ask_for_an_hour(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teachers.client.MAX_RETRY_AFTER_S", 0.4)
    began = time.monotonic()
    ask(scripted, "fault:429-for-an-hour:1")
    assert 0.4 <= time.monotonic() - began < 1.5


def test_overload_lowers_the_concurrency_and_refusal_does_not(scripted: Scripted) -> None:
    async def allowed_after(client: Client) -> int:
        with pytest.raises((EndpointBusy, CallRefused, CallUncertain)):
            await client.chat(make_call())
        return client.limit.allowed

    assert with_client(scripted, "fault:503", allowed_after, retries=0) == 24
    assert with_client(scripted, "fault:silent", allowed_after, retries=0) == 24
    assert with_client(scripted, "fault:400", allowed_after, retries=0) == 32


def test_an_endpoint_that_is_not_there_is_busy(scripted: Scripted) -> None:
    nowhere = scripted._replace(url="http://127.0.0.1:9/v1")
    with pytest.raises(EndpointBusy, match="cannot be reached, 2 times"):
        ask(nowhere, "any")


def test_cancelling_a_call_closes_its_connection(scripted: Scripted) -> None:
    model = "fault:silent"
    before = len(scripted.events("gone", model=model))

    async def cancel(client: Client) -> None:
        task = asyncio.create_task(client.chat(make_call("cancel me")))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The client itself stays open: it is this one connection that has to go.
        await asyncio.sleep(0.3)
        assert len(scripted.events("gone", model=model)) == before + 1
        assert client.limit.allowed == 32

    with_client(scripted, model, cancel)


def test_n_answers_come_in_order_and_are_told_apart(scripted: Scripted) -> None:
    call = make_call("What is 12 + 7?", n=8)
    completion = ask(scripted, "m", call)
    assert [sample.position for sample in completion.samples] == list(range(8))
    assert {sample.call_id for sample in completion.samples} == {call.id}
    assert len({sample.id for sample in completion.samples}) == 8
    assert len({sample.text for sample in completion.samples}) > 4
    assert all("12 + 7 = " in sample.text for sample in completion.samples)


def test_usage_is_kept_and_tokens_only_where_they_are_known(scripted: Scripted) -> None:
    one, many = ask(scripted, "m"), ask(scripted, "m", make_call(n=3))
    assert one.usage.prompt_tokens == many.usage.prompt_tokens == 5
    assert one.samples[0].tokens == one.usage.completion_tokens > 0
    assert [sample.tokens for sample in many.samples] == [None] * 3


@pytest.mark.parametrize(
    ("fault", "thinking", "text"),
    [
        ("think-tags", "two and two", "four"),
        ("think-field", "two and two", "four"),
        ("think-unclosed", "two and two and", ""),
        ("null-content", None, ""),
    ],
)
def test_thinking_is_separated(
    scripted: Scripted, fault: str, thinking: str | None, text: str
) -> None:
    sample = ask(scripted, f"fault:{fault}").samples[0]
    assert (sample.thinking, sample.text) == (thinking, text)


def test_logprobs_of_a_text(scripted: Scripted) -> None:
    tokens = list(range(100, 700))
    values = with_client(scripted, "m", lambda client: client.logprobs(tokens))
    assert len(values) == 599
    assert max(values) <= 0


@pytest.mark.parametrize("fault", ["zero-choices", "no-message", "not-json"])
def test_an_endpoint_without_logprobs_says_so(scripted: Scripted, fault: str) -> None:
    with pytest.raises(BadAnswer):
        with_client(scripted, f"fault:{fault}", lambda client: client.logprobs([1, 2, 3]))


def test_models(scripted: Scripted) -> None:
    models = with_client(scripted, "m", lambda client: client.models())
    assert [model.id for model in models.data] == ["scripted"]


def test_many_calls_share_a_few_connections_and_all_end(scripted: Scripted) -> None:
    async def ask_all(client: Client) -> int:
        calls = [make_call(f"What is {number} + 7?") for number in range(200)]
        answers = await asyncio.gather(*(client.chat(call) for call in calls))
        return sum(f"{n} + 7 = " in a.samples[0].text for n, a in enumerate(answers))

    assert with_client(scripted, "many", ask_all) == 200
    assert len(scripted.events("answered", model="many")) == 200


def test_the_same_request_gets_the_same_answers(scripted: Scripted) -> None:
    first, second = ask(scripted, "m", make_call(n=4)), ask(scripted, "m2", make_call(n=4))
    assert first == second


def test_a_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint(url="http://127.0.0.1:9", model="m", api_key_env="A_KEY_OF_OURS")
    monkeypatch.delenv("A_KEY_OF_OURS", raising=False)
    with pytest.raises(ConfigError, match="A_KEY_OF_OURS is not set"):
        Client(endpoint)
    monkeypatch.setenv("A_KEY_OF_OURS", "s3cr\u00e9t")
    with pytest.raises(ConfigError, match="no key that a header can carry") as refused:
        Client(endpoint)
    assert "s3cr" not in str(refused.value)
    monkeypatch.setenv("A_KEY_OF_OURS", "secret\n")
    assert endpoint.key() == "secret"
    assert "secret" not in repr(endpoint)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="url"):
        Endpoint(url="127.0.0.1:8000", model="m")


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_address_may_end_in_v1(url: str) -> None:
    assert Endpoint(url=url, model="m").base == "http://h:1"
