"""Where everything stands, in one look."""

import json
import sys
from typing import Any

from rich.console import Console

from pipelines.home import Home
from pipelines.round import Outcome
from pipelines.store.checkpoints import CHAMPION
from pipelines.store.query import query
from service.serving import Server, running
from service.tables import table


def read(home: Home) -> dict[str, Any]:
    """Rounds with their stages, calls by state, the champion and its address, trained judges and
    reward models."""
    found: dict[str, Any] = {"home": str(home.root), "rounds": [], "calls": {}, "champion": None}
    found["judges"], found["reward_models"] = [], []
    server = running(home)
    found["serving"] = server.url if server else None
    if not home.store.is_file():
        return found
    rounds = query(
        home.store,
        "select r.id, r.name, r.state, r.note,"
        " (select group_concat(name || ' ' || state, ', ') from"
        "  (select name, state from stages where round_id = r.id order by started_at)) as stages"
        " from rounds r order by started_at desc",
        rows=20,
    )
    found["rounds"] = [dict(zip(rounds.columns, row, strict=True)) for row in rounds.rows]
    calls = query(home.store, "select state, count(*) from calls group by state")
    found["calls"] = dict(calls.rows)
    aliases = query(
        home.store,
        # A reward model is an adapter and nothing more.
        "select name, checkpoint_id, why, adapter_path = merged_path from aliases"
        " left join checkpoints on checkpoints.id = checkpoint_id order by name",
    )
    for name, checkpoint_id, why, scores in aliases.rows:
        known = {"checkpoint": checkpoint_id or "base", "why": why}
        if name == CHAMPION:
            found["champion"] = known
        else:
            found["reward_models" if scores else "judges"].append({"name": name, **known})
    return found


def show(console: Console, found: dict[str, Any]) -> None:
    """Print what `read` found."""
    console.print(f"home: {found['home']}", soft_wrap=True)
    champion = found["champion"]
    console.print(
        f"champion: {champion['checkpoint'][:16]} ({champion['why']})"
        if champion
        else "champion: none yet"
    )
    for kind, those in (("judge", found["judges"]), ("reward model", found["reward_models"])):
        for one in those:
            console.print(f"{kind} {one['name']}: {one['checkpoint'][:16]} ({one['why']})")
    console.print(f"serving: {found['serving'] or 'no (preceptor serve --background)'}")
    states = ", ".join(f"{count} {state}" for state, count in found["calls"].items())
    console.print(f"calls: {states or 'none'}")
    rows = [
        (one["id"][:12], one["name"], one["state"], one["stages"] or "", one["note"] or "")
        for one in found["rounds"]
    ]
    console.print(table(["round", "recipe", "state", "stages", "note"], rows))


def next_steps(home: Home, server: Server, outcome: Outcome, instruction: str) -> str:
    """Three things to try after a round.

    Args:
        instruction: what the student was trained to find after a question.
    """
    command = sys.argv[0]
    held_out = "select question from prompts where split = 'held_out' limit 1"
    question = f"{query(home.store, held_out).rows[0][0]}\n{instruction}".strip()
    checkpoint = outcome.reports["gate"]["checkpoint"][:12]
    message = {"role": "user", "content": question}
    asked = {"model": "champion", "messages": [message], "temperature": 0}
    body = json.dumps(asked).replace("'", "'\\''")  # inside single quotes of a shell
    return (
        f"The promoted student answers at {server.url}. Three things to try:\n"
        f"  1. ask it:       curl {server.url}/chat/completions -H 'Content-Type: application/json'"
        f" -d '{body}'\n"
        f"                   or: {command} chat\n"
        f'  2. look closer:  {command} query "select state, count(*) from verdicts group by state"'
        f"   and: {command} show {checkpoint}\n"
        f"  3. change it:    {command} init recipe.yaml, edit it, {command} run recipe.yaml"
    )
