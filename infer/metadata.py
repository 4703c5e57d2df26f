"""What a scores file says of itself: which cell and rows, by which model, and how they were scored."""

from typing import Any

from conf.schema import Config
from infer.identity import SCORING_VERSION, scoring_identity
from metrics.scores import ScoresMetadata
from train import t5
from train.data.splits import Split
from train.model_artifact import Model


def scores_metadata(
    config: Config,
    split: Split,
    model: Model,
    digest: str,
    *,
    classes: list[str],
    flops: float,
    signature: str,
    further: dict[str, Any] | None = None,
) -> ScoresMetadata:
    """`digest` is the model's content, `flops` a mean over examples; `further` goes into the `config` beside the rest.

    `signature` says how the scores were computed; their version is added to it.
    """
    return ScoresMetadata(
        dataset=config.dataset.name,
        size=config.size.name,
        seed=config.seed,
        split=split.name,
        task=config.dataset.task,
        classes=classes,
        parameters=t5.count_parameters(model.size),
        flops_per_example=flops,
        model=digest,
        data=split.fingerprint,
        signature=f"{signature}|version:{SCORING_VERSION}",
        config={"training": model.cell, "scoring": scoring_identity(config, digest)} | (further or {}),
    )
