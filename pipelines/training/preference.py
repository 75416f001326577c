"""Child process: training an adapter on pairs of a better and a worse answer.

    python -m pipelines.training.preference FOLDER

DPO with any of its losses and KTO are TRL's; conservative DPO, ORPO and SimPO are losses of ours on
TRL's DPO trainer. The reference is the base itself: the same model with its adapter off. It reads
and leaves what `pipelines.training.sft` does, and resumes as exactly.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipelines.training.child import as_child
from pipelines.training.job import PreferenceJob, RunFolder
from pipelines.training.journal import Journal

if TYPE_CHECKING:
    from peft import PeftModel
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.kto_trainer import KTOTrainer

    from pipelines.training.callbacks import Live


def train(job: PreferenceJob, run: RunFolder, journal: Journal, checkpoint: Path | None) -> None:
    """Train from a checkpoint or from the start, and save the adapter.

    Raises:
        TrainingError: the data cannot be used, or the loss is no number any more.
    """
    from pipelines.training import models
    from pipelines.training.arguments import common
    from pipelines.training.callbacks import Live
    from pipelines.training.labelled import score_labelled_only
    from pipelines.training.pairs import pairs_of, singles_of

    tokenizer = models.tokenizer_of(job.base)
    pairs = pairs_of(job.dataset, tokenizer, job.max_length)
    journal.rows(len(pairs.rows), pairs.too_long)
    journal.phase("load the base model")
    trainer = _trainer(
        job,
        common(job, run.checkpoints),
        Live(journal),
        train_dataset=singles_of(pairs.rows, job.seed) if job.objective == "kto" else pairs.rows,
        processing_class=tokenizer,
        # Given a model with an adapter on it, TRL would copy that as the reference; it is to make
        # the adapter itself. It calls it "default", which is safe while it is the only one.
        model=models.base_model(job),
        peft_config=models.adapter_config(job),
    )
    model = cast("PeftModel", trainer.model)
    models.in_float32(model)
    score_labelled_only(cast("Any", model.get_base_model()))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    models.save_adapter(model, run.adapter)


def _trainer(
    job: PreferenceJob, usual: dict[str, Any], live: "Live", **how: Any
) -> "DPOTrainer | KTOTrainer":
    """The trainer that knows the job's loss: TRL's, or ours for what TRL has not."""
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    from pipelines.training.trainers import PairTrainer

    settings = {
        **usual,
        "max_length": job.max_length,
        "beta": job.beta,
        "precompute_ref_log_probs": job.precompute_reference,
    }
    if job.objective == "kto":
        kto = KTOConfig(**settings, loss_type=job.losses[0])
        return KTOTrainer(args=kto, callbacks=[live], **how)
    if _is_ours(job):
        # Columns that TRL does not know are our collator's business.
        ours = DPOConfig(**settings, remove_unused_columns=False)
        return PairTrainer(job, live, args=ours, **how)
    dpo = DPOConfig(
        **settings,
        loss_type=list(job.losses),
        loss_weights=list(job.loss_weights) or None,
        label_smoothing=job.label_smoothing,
    )
    return DPOTrainer(args=dpo, callbacks=[live], **how)


def _is_ours(job: PreferenceJob) -> bool:
    smooth = job.soft_labels or job.label_smoothing > 0
    # TRL's `sigmoid` takes no notice of label smoothing.
    return job.objective in ("orpo", "simpo") or (job.losses == ("sigmoid",) and smooth)


if __name__ == "__main__":
    sys.exit(as_child(Path(sys.argv[1]), train))
