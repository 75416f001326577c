"""Thinking and answer are taken apart, whatever shape the tags come in."""

import pytest

from teachers.reasoning import Thought, split_thinking


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("four", Thought(None, "four", True)),
        ("", Thought(None, "", True)),
        ("<think>two</think>four", Thought("two", "four", True)),
        ("\n<think>\ntwo\n</think>\n\nfour\n", Thought("two", "four\n", True)),
        ("<thinking>two</thinking> four", Thought("two", "four", True)),
        ("<think></think>four", Thought("", "four", True)),
        # Cut short by the token limit: what there is, is no answer.
        ("<think>two and", Thought("two and", "", False)),
        # The template wrote the opening tag.
        ("two</think>four", Thought("two", "four", True)),
        # Tags that do not match are not a pair.
        ("<think>two</thinking>four", Thought("two</thinking>four", "", False)),
        # Only the first thinking is taken; the rest is what the model said.
        ("<think>a</think>b<think>c</think>d", Thought("a", "b<think>c</think>d", True)),
        ("I <think> so", Thought(None, "I <think> so", True)),
    ],
    ids=repr,
)
def test_split(text: str, thought: Thought) -> None:
    assert split_thinking(text) == thought


def test_a_long_text_takes_no_time() -> None:
    # A pattern that backtracks would take minutes here.
    assert split_thinking("<think>" * 100_000).closed is False
