"""Three rounds that nobody watches, each from the last champion: SFT, preference, GRPO.

    make bench NAME=loop

`preceptor serve` is given a run and left alone: its worker makes the rounds, and what they promote
is served. First a student is made that does sums and finds needles (`recipes/demo.yaml`); then a
constitution asks it to be brief (`recipes/concise.yaml`, pairs by construction); then it practises
(`recipes/grpo.yaml`). Held-out tasks that were asked in the first round and in the third decide,
answer by answer, and the second has to make answers shorter, as its constitution says.

Afterwards the first round's student gets a share of the champion's requests (a canary): of each
user all or none, about as many as asked for. Then the champion is rolled back and promoted again,
and whoever asks is answered by the one that it is.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from scipy.stats import binomtest
from sqlite_utils import Database

from benchmarks.serving import START_S, served
from benchmarks.verdict import conclude, show, skip
from pipelines.gates.statistics import mcnemar
from pipelines.home import Home
from pipelines.loop import Limits
from pipelines.recipe import Recipe
from pipelines.recipe_file import load
from pipelines.store import checkpoints, rounds, runs
from pipelines.store.connection import connect, transaction
from service.client import Client
from service.runs import add, requested
from teachers.errors import WeightsError
from teachers.weights import Weights, prepare

BAR_P, LIMIT_S = 0.05, 60 * 60
ROUNDS = 3
SHARE, USERS, TIMES = 0.3, 60, 2
LEAST_P = 0.001
"""A share of users that is less likely than that is not the one that was asked for."""
POLL_S = 2.0
RECIPES = Path(__file__).parent.parent / "recipes"


class Round(NamedTuple):
    """How a round ended."""

    number: int
    name: str
    promoted: bool
    started_from: str
    """Weights: the base's, or a checkpoint's."""
    checkpoint: str
    weights: str
    gate: dict[str, Any]
    minutes: float


def main() -> None:
    try:
        base = prepare("packaged:SmolLM2-135M-Instruct", Home.find().root)
    except WeightsError as missing:
        skip("loop", missing.message)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        home = Home(Path(place))
        with closing(connect(home.store)) as db:
            run_id = _queue(db, home, base)
            with served(home) as (port, _), Client(url := f"http://127.0.0.1:{port}") as client:
                _until(lambda: client.run(run_id).state not in ("queued", "running"), LIMIT_S)
                print(client.run(run_id).note, flush=True)
                found = _rounds(db, run_id)
                _show(found)
                holds = _one_from_the_other(found, base)
                p = _learned(db, found[0], found[-1])
                holds &= _brief(found[1])
                holds &= _canary(url, found) and _rolled_back(client, url, found)
    seconds = time.monotonic() - began
    print(f"{seconds / 60:.1f} min in all (at most {LIMIT_S // 60})")
    conclude("loop", p, BAR_P, at_least=False, also=holds and seconds <= LIMIT_S)


# --- The run ------------------------------------------------------------------------------------


def _queue(db: Database, home: Home, base: Weights) -> str:
    request = requested(home, _recipes(str(base.path)), Limits(rounds=ROUNDS))
    with transaction(db):
        add(db, request, 0)
    return request.id


def _recipes(base: str) -> list[Recipe]:
    """Those that are shipped, from one base; labels by construction need no judge."""
    demo, concise, grpo = (load(RECIPES / f"{name}.yaml") for name in ("demo", "concise", "grpo"))
    labelled = {
        "judge": None,
        "pairs": concise.pairs.model_copy(update={"source": "construction"}),
        "teacher": concise.teacher.model_copy(update={"weights": base}),
        # A student that has learned nothing but sums rambles more than the base does, and the
        # recipe is for the base: after one epoch more than half of its answers are cut as before.
        "train": concise.train.model_copy(update={"epochs": 2, "learning_rate": 2e-4}),
    }
    return [
        one.model_copy(update={"student": one.student.model_copy(update={"weights": base})})
        for one in (demo, concise.model_copy(update=labelled), grpo)
    ]


def _until(what: Callable[[], bool], limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not what():
        if time.monotonic() > end:
            raise SystemExit(f"not within {limit_s:.0f} s")
        time.sleep(POLL_S)


def _rounds(db: Database, run_id: str) -> list[Round]:
    found = []
    for turn in runs.turns(db, run_id):
        [(round_id, name, began, ended)] = db.execute(
            "select rounds.id, rounds.name, turns.began_at, turns.ended_at from turns"
            " join rounds on rounds.id = turns.round_id where run_id = ? and turns.number = ?",
            (run_id, turn.number),
        ).fetchall()
        trained, gate = (rounds.report_of(db, round_id, stage) for stage in ("train", "gate"))
        if trained is None or gate is None:
            raise SystemExit(f"round {turn.number} was not finished")
        checkpoint = checkpoints.checkpoint(db, str(trained["checkpoint"]))
        [(started_from,)] = db.execute(
            "select json_extract(job, '$.base_weights') from training_runs where id = ?",
            (checkpoint.training_run_id,),
        ).fetchall()
        minutes = (ended - began) / 60
        found.append(
            Round(
                *(turn.number, name, bool(turn.promoted), started_from),
                *(checkpoint.id, checkpoint.weights, gate, minutes),
            )
        )
    if len(found) != ROUNDS:
        raise SystemExit(f"{len(found)} rounds were made, not {ROUNDS}")
    return found


def _show(found: list[Round]) -> None:
    rows = [
        [
            f"{one.number} {one.name}",
            "yes" if one.promoted else "no",
            one.started_from[:12],
            one.weights[:12],
            f"{one.minutes:.1f}",
        ]
        for one in found
    ]
    show("rounds", ["round", "promoted", "from", "student", "min"], rows)


# --- What came of it ----------------------------------------------------------------------------


def _one_from_the_other(found: list[Round], base: Weights) -> bool:
    """Whether each began as what was promoted last."""
    last = base.fingerprint
    for one in found:
        if one.started_from != last:
            return False
        last = one.weights if one.promoted else last
    return all(one.promoted for one in found)


def _learned(db: Database, first: Round, last: Round) -> float:
    """McNemar's p that the last round's student does the tasks no better than the first's."""
    rows = db.execute(
        "select one.strict = 'verified', other.strict = 'verified' from eval_items one"
        " join eval_items other using (prompt_id)"
        " where one.eval_id in (select id from evals where checkpoint_id = ?)"
        " and other.eval_id in (select id from evals where checkpoint_id = ?)",
        (first.checkpoint, last.checkpoint),
    ).fetchall()
    before, after = ([bool(row[side]) for row in rows] for side in (0, 1))
    paired = mcnemar(before, after)
    was, now = (sum(some) / len(rows) for some in (before, after))
    print(f"{len(rows)} held-out tasks right: {was:.1%} -> {now:.1%}, McNemar p = {paired.p:.1e}")
    return paired.p if paired.difference > 0 else 1.0


def _brief(second: Round) -> bool:
    """Whether answers became shorter, as the constitution asks."""
    [length] = [one for one in second.gate["conditions"] if one["name"] == "length"]
    print(f"length under the constitution: {length['found']}, p = {length['p']:.1e}")
    return bool(length["passed"])


def _asked(url: str, user: str) -> str:
    """Who answers this user as the champion."""
    body = {
        "model": "champion",
        "user": user,
        "max_tokens": 4,
        "messages": [{"role": "user", "content": "Who are you?"}],
    }
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)
    answer.raise_for_status()
    return answer.headers["x-preceptor-checkpoint"]


def _canary(url: str, found: list[Round]) -> bool:
    """Whether an older student gets the share of users that it is to get, each all or none."""
    trials = f"{url}/api/v1/trials"
    told = {"checkpoint": found[0].checkpoint, "kind": "canary", "share": SHARE}
    httpx.post(trials, json=told).raise_for_status()
    # Until its model server is up, the champion answers all.
    _until(lambda: _asked(url, f"early {time.monotonic()}") == found[0].checkpoint, START_S)
    who = [{_asked(url, f"user {one}") for _ in range(TIMES)} for one in range(USERS)]
    httpx.delete(f"{trials}/current").raise_for_status()
    seen = Counter(one for some in who for one in some)
    got = seen[found[0].checkpoint]
    likely = float(binomtest(got, USERS, SHARE).pvalue)
    sticky = all(len(some) == 1 for some in who)
    print(f"a canary of {SHARE:.0%} got {got} of {USERS} users (p = {likely:.2f})")
    print(f"each user was answered by {'one' if sticky else 'MORE THAN ONE'} of the two")
    return sticky and likely > LEAST_P


def _rolled_back(client: Client, url: str, found: list[Round]) -> bool:
    """Whether whoever asks is answered by what the champion is, back and forth."""
    client.roll_back()
    back = _seen(url, found[1].checkpoint)
    client.promote(found[2].checkpoint)
    forth = _seen(url, found[2].checkpoint)
    print(f"rolled back to round 2 in {back:.1f} s, promoted again in {forth:.1f} s")
    return True


def _seen(url: str, checkpoint: str) -> float:
    """Seconds until a checkpoint answers."""
    began = time.monotonic()
    _until(lambda: _asked(url, "anybody") == checkpoint, START_S)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
