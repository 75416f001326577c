"""The fake itself: what other tests and the benchmarks rely on."""

import json
from pathlib import Path

import httpx
import pytest

from tests.scripted.answers import answers, value_of
from tests.scripted.running import Scripted, running


def request(text: str, n: int = 1) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "n": n}


@pytest.mark.parametrize(
    ("expression", "value"),
    [("12 + 7", 19), ("4 - 3 + 2", 3), ("2 + 3 * 4", 14), ("-4 - -5", 1), ("2*3*4-1", 23)],
)
def test_sums(expression: str, value: int) -> None:
    assert value_of(expression) == value


def test_the_chosen_share_of_answers_is_right() -> None:
    texts = [t for i in range(100) for t in answers(request(f"What is {i} + 7 =", n=20), 0.3)]
    right = sum(f"\nAnswer: {i // 20 + 7}" in text for i, text in enumerate(texts))
    assert 0.27 < right / len(texts) < 0.33


def test_a_student_answers_right_what_the_base_did() -> None:
    base, student = (answers(request("What is 2 + 3?", n=64), share) for share in (0.4, 0.8))
    was, now = ([text.endswith(": 5") for text in texts] for texts in (base, student))
    assert all(after for before, after in zip(was, now, strict=True) if before)
    assert sum(now) > sum(was)


def test_only_the_last_sum_counts() -> None:
    text = "Example: 1 + 1 = 2.\nState the final answer to: 12 + 7 ="
    assert answers(request(text), 1.0)[0].endswith("Answer: 19")


def test_streamed_words_make_up_the_answer(scripted: Scripted) -> None:
    url, body = f"{scripted.url}/v1/chat/completions", request("What is 12 + 7?", n=2)
    whole = [c["message"]["content"] for c in httpx.post(url, json=body).json()["choices"]]
    streamed = ["", ""]
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    with httpx.stream("POST", url, json=asked) as response:
        assert response.headers["content-type"] == "text/event-stream"
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        streamed[choice["index"]] += choice["delta"].get("content", "")
    assert streamed == whole


def test_the_log_says_what_arrived_and_what_was_answered(tmp_path: Path) -> None:
    with running(tmp_path, "--delay-ms", "300", "--served-model-name", "slow") as server:
        url = f"{server.url}/v1/chat/completions"
        body = {**request("What is 1 + 1?"), "model": "slow"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=body, timeout=0.1)
        assert httpx.post(url, json=body).status_code == 200
        assert httpx.post(url, json={**body, "model": "other"}).status_code == 404
        assert len(server.events("arrived", model="slow")) == 2
        assert len(server.events("answered", model="slow")) == 1
        assert len(server.events("gone", model="slow")) == 1
        assert len({line["sha"] for line in server.events("arrived", model="slow")}) == 1
