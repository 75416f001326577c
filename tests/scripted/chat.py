"""Completions on the wire: of a chat, whole and as server-sent events, and as tokens."""

import json
from collections.abc import Sequence
from typing import Any

from tests.scripted.model import Said


def completion(body: dict[str, Any], texts: list[str], request_id: str = "") -> dict[str, Any]:
    """The body of a chat completion, named after the request; usage counts words."""
    asked = sum(len(str(turn.get("content", "")).split()) for turn in body["messages"])
    said = sum(len(text.split()) for text in texts)
    return {
        "id": f"chatcmpl-{request_id or 'scripted'}",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
            for index, text in enumerate(texts)
        ],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": said,
            "total_tokens": asked + said,
        },
    }


def token_completion(answers: Sequence[Said]) -> dict[str, Any]:
    """The body of a plain completion with its tokens, as vLLM adds them."""
    choices = [
        {
            "index": index,
            "text": "",
            "finish_reason": said.finish_reason,
            "logprobs": {"token_logprobs": said.logprobs},
            "token_ids": said.tokens,
        }
        for index, said in enumerate(answers)
    ]
    return {"object": "text_completion", "choices": choices}


def events(answer: dict[str, Any], *, usage: bool = False) -> list[bytes]:
    """A chat completion as server-sent events, a word at a time.

    Args:
        usage: whether it ends with what it took.
    """
    deltas: list[tuple[int, dict[str, str], str | None]] = []
    for choice in answer["choices"]:
        words = choice["message"]["content"].split(" ")
        deltas.append((choice["index"], {"role": "assistant", "content": ""}, None))
        deltas += [
            (choice["index"], {"content": (" " if at else "") + word}, None)
            for at, word in enumerate(words)
        ]
        deltas.append((choice["index"], {}, "stop"))
    head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 0}
    head["model"] = answer["model"]
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}
        for index, delta, reason in deltas
    ]
    if usage:
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
    # Without spaces, as vLLM writes them.
    lines = [json.dumps(chunk, separators=(",", ":")) for chunk in chunks]
    return [f"data: {line}\n\n".encode() for line in [*lines, "[DONE]"]]
