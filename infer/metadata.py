"""Makes the metadata of a scores file: which cell and rows were scored, by which model, and how."""

from typing import Any

from infer.identity import SCORING_VERSION, scoring_identity
from infer.job import ScoringJob
from metrics.scores import ScoresMetadata
from train import t5


def scores_metadata(
    job: ScoringJob,
    *,
    classes: list[str],
    flops: float,
    signature: str,
    more_config: dict[str, Any] | None = None,
) -> ScoresMetadata:
    """Returns the metadata of a job's scores.

    `flops` is a mean over examples. `signature` says how the scores were computed; SCORING_VERSION is added to it.
    `more_config` is added to the metadata's `config`, beside how the model was trained and how it scores.
    """
    config = job.config
    return ScoresMetadata(
        dataset=config.dataset.name,
        size=config.size.name,
        seed=config.seed,
        split=job.split.name,
        task=config.dataset.task,
        classes=classes,
        parameters=t5.count_parameters(job.model.size),
        flops_per_example=flops,
        model=job.digest,
        data=job.split.fingerprint,
        signature=f"{signature}|version:{SCORING_VERSION}",
        config={"training": job.model.cell, "scoring": scoring_identity(config, job.digest)} | (more_config or {}),
    )
