"""`preceptor verify`: rows in, findings out, and nothing lost on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from judges.verifiers import VERIFIERS, sandbox
from service.commands import verify
from teachers.errors import VerifierError
from tests.commands import Cli

ROOT = Path(__file__).resolve().parent.parent

ROWS: list[dict[str, Any]] = [
    {"text": "2 + 2 = 4, so the answer is 4.", "reference": 4},
    {"text": "Answer: 5", "reference": "4", "id": 7},
    {"text": "no idea", "reference": "4"},
    {"text": "Answer: 5"},
]


def write(folder: Path, rows: list[dict[str, Any]], *more: str) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{line}\n" for line in [*map(json.dumps, rows), *more]))
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_gets_a_finding_in_its_place(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    said = cli("verify", write(tmp_path, ROWS), "--verifier", "number", "--out", str(out))
    assert said.code == 0, said.err
    written = read(out)
    findings = [row.pop("verification") for row in written]
    assert written == ROWS
    assert [found["state"] for found in findings] == [
        "verified",
        "refuted",
        "unparsed",
        "not_applicable",
    ]
    assert findings[1]["answer"] == "5"
    for word in ("verified", "refuted", "25%", "expected 4", "checking: 4 done"):
        assert word in said.out


def test_bad_lines_are_named_and_kept_and_the_others_checked(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    bad = ("{no json", '["a list"]', '{"reference": 3}', '{"text": "a", "reference": [1]}')
    file = write(tmp_path, ROWS[:1], *bad)
    said = cli("verify", file, "--verifier", "number", "--out", str(out), "--json")
    assert said.code == 1
    for number, why in enumerate(
        ("Expecting property name", "not a JSON object", "no text in 'text'", "'reference' is"), 2
    ):
        assert f"rows.jsonl:{number}: {why}" in said.err
    assert said.json["states"] == {"verified": 1, "error": 4}
    assert said.json["verifier"] == "number/2"
    assert len(said.json["bad_lines"]) == 4
    # What is an object stays as it was, and what is none is kept as a text.
    assert [row.get("line") for row in read(out)] == [None, *bad[:2], None, None]
    assert [row.get("reference") for row in read(out)[3:]] == [3, [1]]


def test_what_would_go_wrong_on_every_row_is_told_at_once(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, ROWS)
    said = cli("verify", file, "--verifier", "number", "--entry", "{at_most")
    assert (said.code, said.err.count("--entry is no JSON")) == (1, 1)
    said = cli("verify", file, "--verifier", "number", "--out", file)
    assert "is the file that is read" in said.err
    assert read(Path(file)) == ROWS


def test_rows_are_not_written_where_they_are_read_or_where_nothing_can_be(
    cli: Cli, tmp_path: Path
) -> None:
    # What a check that was stopped leaves behind: the next one begins by writing there.
    left = Path(write(tmp_path, ROWS)).rename(tmp_path / "rows.jsonl.partial")
    said = cli("verify", str(left), "--verifier", "number", "--out", str(tmp_path / "rows.jsonl"))
    assert f"{left} is the file that is read" in said.err
    assert read(left) == ROWS
    for place in ("", ".", "/", tmp_path, tmp_path / "nowhere" / "rows.jsonl"):
        said = cli("verify", str(left), "--verifier", "number", "--out", str(place))
        assert (said.code, "is no place for a file" in said.err) == (1, True), place


@pytest.mark.parametrize("entry", ["asked", ".", '{"at_most": 2}'])
def test_parameters_come_from_a_field_the_row_or_the_command(
    cli: Cli, tmp_path: Path, entry: str
) -> None:
    row = {"said": "one two three", "at_most": 2, "asked": {"at_most": 2}}
    file = write(tmp_path, [row])
    words = ("--verifier", "length", "--text", "said", "--entry", entry, "--json")
    assert cli("verify", file, *words).json["states"] == {"refuted": 1}


def test_the_score_and_the_strict_parser(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    file = write(tmp_path, [{"text": "a b c d", "gold": "a b"}])
    cli("verify", file, "--verifier", "similarity", "--reference", "gold", "--out", str(out))
    assert read(out)[0]["verification"]["score"] == pytest.approx(2 / 3)
    words = ("--verifier", "number", "--parser", "strict", "--json")
    assert cli("verify", write(tmp_path, ROWS[:1]), *words).json["states"] == {"unparsed": 1}


def test_rows_are_there_while_others_are_still_checked(tmp_path: Path) -> None:
    (tmp_path / "our_slow_rule.py").write_text(
        "import time\n"
        "from judges.records import Verification\n"
        "DEADLINE_S = 60\n"
        "def check(answer, reference, entry):\n"
        "    time.sleep(60 * (answer == '50'))\n"
        "    return Verification(state='verified', reason='')\n"
    )
    file = write(tmp_path, [{"text": f"Answer: {n}"} for n in range(100)])
    command = [sys.executable, "-m", "service.cli", "verify", file, "--out", "out.jsonl"]
    child = subprocess.Popen(
        [*command, "--verifier", "our_slow_rule:check"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has SIGINT ignored, and so would the child.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    partial = tmp_path / "out.jsonl.partial"
    try:
        for _ in range(300):
            if partial.exists() and len(partial.read_text().splitlines()) == 50:
                break
            time.sleep(0.1)
    finally:
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=20)
    assert child.returncode == 1
    assert "stopped: 50 of 100 rows were checked, and what was found is in out.jsonl.part" in told
    assert "Traceback" not in told
    assert [row["text"] for row in read(partial)] == [f"Answer: {n}" for n in range(50)]
    assert not (tmp_path / "out.jsonl").exists()


def test_the_jail_of_code_is_told(cli: Cli, tmp_path: Path) -> None:
    try:
        jail = sandbox.best_tier()
    except VerifierError as none:
        pytest.skip(none.message)
    out = tmp_path / "out.jsonl"
    file = write(tmp_path, [{"text": "print(1)", "cases": [{"stdout": "1"}]}, {"text": "No."}])
    words = ("verify", file, "--verifier", "code", "--entry", ".", "--out", str(out))
    assert f"1 programs ran in the jail {jail}" in cli(*words).out
    assert [row["verification"]["jail"] for row in read(out)] == [jail, None]
    assert cli(*words, "--json").json["jails"] == {jail: 1}


def test_help_names_every_verifier() -> None:
    assert verify.VERIFIERS.split(", ") == sorted(VERIFIERS)


def test_what_cannot_begin_is_told(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, ROWS)
    assert "no verifier 'numbr'" in cli.refused("verify", file, "--verifier", "numbr")
    assert "cannot be imported" in cli.refused("verify", file, "--verifier", "no_such:rule")
    assert "no file" in cli.refused("verify", "none.jsonl", "--verifier", "number")
    (tmp_path / "empty.jsonl").write_text("\n")
    assert "is empty" in cli.refused("verify", "empty.jsonl", "--verifier", "number")


def test_somebodys_own_rule_in_the_current_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "our_cli_rule.py").write_text(
        "from judges.records import Verification\n"
        "def check(answer, reference, entry):\n"
        "    return Verification(state='verified', reason='as ever')\n"
    )
    file = write(tmp_path, ROWS[:2])
    said = cli("verify", file, "--verifier", "our_cli_rule:check", "--json")
    assert said.json["states"] == {"verified": 2}
