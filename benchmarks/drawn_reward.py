"""A reward model that nobody trained: the base with a head of random weights, for `ppo_speed`.

    python -m benchmarks.drawn_reward JOB FOLDER

What it says means nothing, and takes as long as if it did.
"""

import sys
from pathlib import Path

from pipelines.training.job import RewardJob
from pipelines.training.reward_notes import Norm, Origin


def main(job: RewardJob, folder: Path) -> None:
    import torch

    from pipelines.training import models
    from pipelines.training.heads import headed

    torch.manual_seed(0)
    models.put_adapter(headed(job), folder)
    Origin(base=job.base_weights, adapter="lora").save(folder)
    Norm(mean=0.0, deviation=1.0, samples=1).save(folder)


if __name__ == "__main__":
    main(RewardJob.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
