"""Child process: scoring answers with a reward model.

    python -m pipelines.training.score FOLDER

It reads FOLDER/job.json and FOLDER/rows.jsonl, and writes FOLDER/scores.jsonl as it goes.
"""

import sys
from pathlib import Path

from pipelines.training.job import DONE, REFUSED
from pipelines.training.score_job import Scorable, Scored, ScoreFolder, ScoreJob
from teachers.errors import PreceptorError

AT_ONCE = 64
"""Answers between two lines of progress."""


def run(folder: ScoreFolder) -> None:
    """Score every row.

    Raises:
        TrainingError: the reward model is not what the job says, or a row cannot be read.
    """
    from pipelines.training import cores, models
    from pipelines.training.dataset import answered, rows_of
    from pipelines.training.scoring import Scorer

    cores.use()
    job = ScoreJob.model_validate_json(folder.job.read_text())
    tokenizer = models.tokenizer_of(job.base)
    scorer = Scorer.alone(job.base, job.adapter, job.device)
    rows = list(rows_of(folder.rows, Scorable))
    with folder.scores.open("w") as out:
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            sides = [answered(tokenizer, row.question, [row.answer]) for row in some]
            for row, score in zip(some, scorer.raw([(side, ()) for side in sides]), strict=True):
                out.write(Scored(id=row.id, score=score).model_dump_json() + "\n")
            out.flush()


def main(folder: Path) -> int:
    """Returns the exit code, as `pipelines.training.job` has them."""
    try:
        run(ScoreFolder(folder))
    except PreceptorError as refused:
        sys.stderr.write(f"{refused.message}\n")
        return REFUSED
    return DONE


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
