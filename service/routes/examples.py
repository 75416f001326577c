"""What answers look like, for the specification: an example for each model, by the model's name."""

import hashlib
from typing import Any

AT, LATER = 1_790_000_000.0, 1_790_000_090.5


def _id(what: str) -> str:
    return hashlib.sha256(what.encode()).hexdigest()


_COMPARED = {
    "first": "Paris.",
    "second": "That is a good question! The capital of France is the city of Paris.",
}
_ASKED = [{"role": "user", "content": "What is the capital of France?"}]
_EFFECTS = {"same": 41, "flips": 3, "appears": 2, "vanishes": 4}
_AFFECTED = {"hits": 9, "n": 50, "low": 0.098, "high": 0.308}
_RECIPE = {"name": "sums", "supply": {"generators": [{"generator": "chain_sum"}]}}
_FIGURES = {
    "n": 24, "accuracy": 0.83, "low": 0.64, "high": 0.93, "flips": 0.08, "unread": 0.0
}  # fmt: skip
_CERTIFICATE = {
    **_FIGURES,
    "kappa": 0.71,
    "first_slot": 0.52,
    "picks_longer": 0.5,
    "longer_is_better": 0.5,
    "calibration_error": 0.06,
    "temperature": 1.3,
    "calibration_error_scaled": 0.04,
    "states": {"flip": 2, "loss": 11, "win": 11},
    "open": None,
    "sealed": None,
}
_CHANGED = {
    "comparison": _id("comparison"),
    "effect": "vanishes",
    "request": _ASKED[0]["content"],
    **_COMPARED,
    "before": {
        "state": "first",
        "p": 0.9,
        "decisions": [{"principle": "short", "p": 0.9, "pull": 2.2}],
    },
    "after": {"state": "undecided", "p": None, "decisions": []},
    "by": [{"principle": "short", "before": 2.2, "after": 0.0}],
    "reason": "undecided",
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "Health": {"status": "ok", "runs": {"queued": 1, "running": 1}},
    "TrialState": {
        "seq": 4,
        "checkpoint_id": _id("checkpoint"),
        "kind": "canary",
        "share": 0.1,
        "started_at": AT,
        "ended_at": None,
        "why": None,
        "candidate": {"answers": 31, "failed": 0, "first_token_s": 0.21},
        "champion": {"answers": 274, "failed": 1, "first_token_s": 0.19},
    },
    "Budget": {
        "of": "key",
        "id": "3f2a9c1b7d5e",
        "name": "app",
        "most": 100_000,
        "spent": 41_250,
    },
    "Version": {"preceptor": "0.1.0", "api": "v1"},
    "Problem": {
        "title": "Bad Request",
        "status": 400,
        "detail": "yaml, line 5: principle 'short': unknown key 'txt', did you mean 'text'?",
        "hint": "",
    },
    "RunState": {
        "id": _id("run"),
        "recipes": ["sums"],
        "state": "running",
        "wish": None,
        "priority": 0,
        "rounds": 2,
        "promoted": 1,
        "tokens": 184_210,
        "limits": {"patience": 3},
        "schedule": "0 2 * * *",
        "due_at": None,
        "stage": "train",
        "note": None,
    },
    "Alias": {
        "name": "champion",
        "checkpoint_id": _id("checkpoint"),
        "why": "strict accuracy 0.41, before 0.22",
        "moved_at": AT,
    },
    "Rows": {
        "columns": ["state", "count(*)"],
        "rows": [["verified", 412], ["refuted", 188]],
        "truncated": False,
    },
    "Round": {
        "id": _id("round"),
        "name": "sums",
        "number": 1,
        "state": "done",
        "note": None,
        "recipe": _RECIPE,
        "started_at": AT,
        "ended_at": LATER,
    },
    "Stage": {
        "round_id": _id("round"),
        "name": "sample",
        "state": "done",
        "started_at": AT,
        "ended_at": LATER,
        "report": {"samples": 2400},
    },
    "Prompt": {
        "id": _id("prompt"),
        "task": "sums",
        "question": "What is 12 + 7?",
        "reference": "19",
        "verifier": "number",
        "source": "chain_sum",
        "split": "train",
        "created_at": AT,
    },
    "Sample": {
        "id": _id("sample"),
        "call_id": _id("call"),
        "prompt_id": _id("prompt"),
        "position": 0,
        "text": "12 + 7 = 19\nAnswer: 19",
        "thinking": None,
        "finish_reason": "stop",
        "tokens": 14,
        "created_at": AT,
    },
    "Verdict": {
        "id": _id("verdict"),
        "sample_id": _id("sample"),
        "verifier": "number/1",
        "parser": "strict",
        "state": "verified",
        "answer": "19",
        "reason": "equals 19",
        "created_at": AT,
    },
    "Pair": {
        "id": _id("pair"),
        "round_id": _id("round"),
        "comparison_id": _id("comparison"),
        "chosen_sample": _id("sample"),
        "rejected_sample": _id("another sample"),
        "source": "judge",
        "p": 0.9,
        "created_at": AT,
    },
    "Dataset": {
        "id": _id("dataset"),
        "round_id": _id("round"),
        "kind": "sft",
        "rows": 640,
        "sha256": _id("file"),
        "created_at": AT,
    },
    "TrainingRun": {
        "id": _id("training run"),
        "round_id": _id("round"),
        "dataset_id": _id("dataset"),
        "state": "done",
        "job": {"objective": "sft"},
        "peak_bytes": 2_147_483_648,
        "error": None,
        "started_at": AT,
        "ended_at": LATER,
    },
    "Checkpoint": {
        "id": _id("checkpoint"),
        "training_run_id": _id("training run"),
        "step": 120,
        "adapter_sha256": _id("adapter"),
        "weights": _id("weights"),
        "created_at": AT,
    },
    "Eval": {
        "id": _id("eval"),
        "round_id": _id("round"),
        "weights": _id("weights"),
        "checkpoint_id": _id("checkpoint"),
        "prompting": "zero-shot",
        "items": 300,
        "strict": 0.41,
        "lenient": 0.44,
        "created_at": AT,
    },
    "Promotion": {
        "id": _id("promotion"),
        "round_id": _id("round"),
        "checkpoint_id": _id("checkpoint"),
        "incumbent": None,
        "decision": "promoted",
        "reason": "strict accuracy 0.41, before 0.22",
        "report": {"gained": 71, "lost": 14},
        "created_at": AT,
    },
    "Comparison": {
        "id": _id("comparison"),
        "prompt_id": _id("prompt"),
        "conversation": _ASKED,
        **_COMPARED,
        "first_sample": _id("sample"),
        "second_sample": _id("another sample"),
        "source": "round",
        "created_at": AT,
    },
    "Label": {
        "id": _id("label"),
        "comparison_id": _id("comparison"),
        "annotator": "Ada",
        "principle_id": None,
        "choice": "first",
        "shown": "backward",
        "seconds": 7.5,
        "note": "",
        "created_at": AT,
    },
    "NextToLabel": {
        "items": [
            {
                "comparison": _id("comparison"),
                "conversation": _ASKED,
                **_COMPARED,
                "shown": "backward",
            }
        ],
        "left": 37,
    },
    "Name": {"name": "mine", "in_force": _id("version"), "commits": 2, "committed_at": AT},
    "ConstitutionVersion": {
        "id": _id("version"),
        "name": "mine",
        "in_force": True,
        "description": "Short answers.",
        "principles": [{"id": "short", "text": "The answer is short."}],
        "yaml": "name: mine\ndescription: Short answers.\nprinciples:\n"
        "- id: short\n  text: The answer is short.\n",
    },
    "Change": {
        "kind": "reweighted",
        "principle": "short",
        "old": "1.0",
        "new": "2.0",
        "asks_again": False,
    },
    "ConstitutionCommit": {
        "constitution_id": _id("version"),
        "name": "mine",
        "parent": None,
        "author": "Ada",
        "message": "answers are short",
        "committed_at": AT,
    },
    "Commit": {
        "id": _id("version"),
        "name": "mine",
        "parent": None,
        "author": "Ada",
        "message": "answers are short",
        "committed_at": AT,
        "new": True,
        "weaknesses": ["short: has 1 cases; 20 or more tell good judges from lucky ones"],
    },
    "Foreseen": {
        "comparisons": 50,
        "exact": True,
        "effects": _EFFECTS,
        "affected": _AFFECTED,
        "by_principle": {
            "short": {
                "edits": ["reweighted"],
                "pairs": _EFFECTS,
                "affected": _AFFECTED,
                "verdicts": None,
            }
        },
        "changed": [_CHANGED],
        "calls": 0,
        "seconds": 0.0,
    },
    "Measured": {
        "constitution": _id("version"),
        "judges": [
            {
                "judge": _id("judge"),
                "name": "compare http://127.0.0.1:8001/v1 judge@ (1f0c9a72)",
                "principles": {
                    "short": {
                        "cases": 24,
                        "judged": 24,
                        "passed": True,
                        "faults": [],
                        "figures": _CERTIFICATE,
                    }
                },
            }
        ],
    },
}


def shown(spec: dict[str, Any]) -> None:
    """Put the examples into a specification."""
    for name, example in EXAMPLES.items():
        spec["components"]["schemas"][name]["examples"] = [example]
