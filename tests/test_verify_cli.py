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

from judges.records import Verification
from judges.verifiers import VERIFIERS, sandbox
from service.commands import verify
from service.findings_file import FindingsFile
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
    out = tmp_path / "rows.jsonl"
    fields = verify.Fields("text", "reference", "entry")
    begun = FindingsFile(out, "verification", "number/2", "lenient", fields)
    left = Path(write(tmp_path, ROWS)).rename(begun.partial)
    said = cli("verify", str(left), "--verifier", "number", "--out", str(out))
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
    partial = tmp_path
    try:
        for _ in range(300):
            partial = next(tmp_path.glob("out.jsonl.*.partial"), tmp_path)
            if partial.is_file() and len(partial.read_text().splitlines()) == 50:
                break
            time.sleep(0.1)
    finally:
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=20)
    assert child.returncode == 130
    assert "the same command goes on from here" in told
    assert "stopped: 50 of 100 rows were checked, and what was found is in out.jsonl." in told
    assert "Traceback" not in told
    assert [row["text"] for row in read(partial)] == [f"Answer: {n}" for n in range(50)]
    assert not (tmp_path / "out.jsonl").exists()


STATES = """
from pathlib import Path
from judges.records import Verification
def check(answer, reference, entry):
    with Path("asked").open("a") as asked:
        asked.write(answer)
    return Verification(state="verified", reason="")
"""


def stopped(folder: Path, file: str, rule: str, rows: int) -> tuple[tuple[str, ...], Path]:
    """What a check leaves that was stopped after so many rows, in the middle of the next."""
    out = folder / "out.jsonl"
    words = ("verify", file, "--verifier", rule, "--out", str(out))
    fields = verify.Fields("text", "reference", "entry")
    begun = FindingsFile(out, "verification", f"{rule}/1", "lenient", fields)
    found = Verification(state="refuted", reason="before")
    done = [begun.line(row, found) for row in read(Path(file))[: rows + 1]]
    begun.partial.write_text("".join(done)[: -len(done[-1]) // 2])
    return words, begun.partial


def test_a_check_that_was_stopped_is_gone_on_with(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "our_counted_rule.py").write_text(STATES)
    file = write(tmp_path, [{"text": f"Answer: {n}"} for n in range(6)])
    words, partial = stopped(tmp_path, file, "our_counted_rule:check", 4)
    said = cli(*words, "--workers", "1", "--json")
    assert said.code == 0, said.err
    assert f"going on after 4 rows in {partial}" in said.err
    assert said.json["states"] == {"refuted": 4, "verified": 2}
    assert (tmp_path / "asked").read_text() == "45"
    assert [row["text"] for row in read(tmp_path / "out.jsonl")] == [
        f"Answer: {n}" for n in range(6)
    ]
    assert not partial.exists()


def test_another_check_does_not_go_on_with_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "our_other_rule.py").write_text(STATES)
    file = write(tmp_path, [{"text": f"Answer: {n}"} for n in range(6)])
    words, partial = stopped(tmp_path, file, "our_other_rule:check", 4)
    assert cli(*words, "--parser", "strict", "--json").json["states"] == {"verified": 6}
    assert partial.exists()
    write(tmp_path, [{"text": f"Answer: {n}"} for n in range(1, 7)])
    left = partial.read_bytes()
    said = cli.refused(*words)
    assert "cannot be gone on with: row 1 is another row by now" in said
    assert "Remove it to begin anew" in said
    write(tmp_path, [{"text": "Answer: 0"}])
    assert "more rows than there are by now" in cli.refused(*words)
    assert left.startswith(partial.read_bytes())


def test_a_field_of_the_rows_is_never_replaced(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, [*ROWS, {"text": "Answer: 4", "verification": "mine"}])
    out = tmp_path / "out.jsonl"
    words = ("verify", file, "--verifier", "number")
    told = cli.refused(*words, "--out", str(out))
    assert "rows.jsonl:5 has a field 'verification' already" in told
    assert "--finding NAME" in told
    assert [path.name for path in tmp_path.glob("out*")] == []
    assert cli(*words).code == 0  # nothing is written
    assert cli(*words, "--out", str(out), "--finding", "again").code == 0
    assert read(out)[4]["verification"] == "mine"
    assert read(out)[0]["again"]["state"] == "verified"


def test_parameters_that_nothing_takes_are_told(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path, [{"text": "Answer: 4", "reference": "4", "asked": {"size": 3}}])

    def told(rule: str, *more: str) -> str:
        return cli("verify", file, "--verifier", rule, *more).err

    assert "hint" not in told("number")
    assert "hint: no row has a reference in 'gold' (--reference)" in told(
        "number", "--reference", "gold"
    )
    assert "hint: no row has parameters in 'params' (--entry)" in told(
        "length", "--entry", "params"
    )
    assert "hint: length takes at_least, at_most, unit: no row's entry (asked)" in told(
        "length", "--entry", "asked"
    )
    assert "hint: number takes no parameters" in told("number", "--entry", "asked")


@pytest.mark.parametrize(
    ("rule", "entry", "why"),
    [
        ("length", '{"at_mots": 3}', "length has no parameter 'at_mots'; did you mean 'at_most'?"),
        ("number", '{"at_most": 3}', "number has no parameter 'at_most': it takes none"),
        ("length", '{"at_most": "few"}', "at_most has to be a whole number, and is 'few'"),
        ("length", '{"unit": "lines"}', "unit has to be 'words' or 'characters', and is 'lines'"),
    ],
)
def test_parameters_on_the_command_line_are_checked_first(
    cli: Cli, tmp_path: Path, rule: str, entry: str, why: str
) -> None:
    told = cli.refused("verify", write(tmp_path, ROWS), "--verifier", rule, "--entry", entry)
    assert why in told
    assert "pydantic" not in told


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
    assert "is a folder" in cli.refused("verify", ".", "--verifier", "number")
    assert "Name a JSONL file in it" in cli.refused("verify", ".", "--verifier", "number")
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


def test_a_rule_that_returns_no_verification_or_ends_the_process_is_told(
    cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "our_bad_rules.py").write_text(
        "import sys\n"
        "def yes(answer, reference, entry):\n"
        "    return True\n"
        "def ends(answer, reference, entry):\n"
        "    sys.exit(3)\n"
    )
    (tmp_path / "our_script.py").write_text("import sys\nsys.exit('bye')\n")
    file = write(tmp_path, ROWS[1:2])
    said = cli("verify", file, "--verifier", "our_bad_rules:yes")
    assert "the rule returned True, and not a judges.records.Verification" in said.out
    said = cli("verify", file, "--verifier", "our_bad_rules:ends")
    assert "the rule called sys.exit(3)" in said.out
    told = cli.refused("verify", file, "--verifier", "our_script:check")
    assert "its module ends the process while it is imported (sys.exit('bye'))" in told
    assert "__main__" in told
