"""Writes the signature: a line that names each choice that a table's numbers rest on, in the manner of sacreBLEU."""

from collections.abc import Collection

from conf.schema import Metrics


def signature(config: Metrics, tasks: Collection[str] = ("classification",)) -> str:
    """Returns the readings of the paper and the intervals that the numbers of those tasks rest on."""
    likelihood = "length-normalized" if config.length_normalized else "total"
    choices_by_task = {
        "classification": [f"likelihood:{likelihood}"],
        "span_qa": [f"context:{config.context}", f"answers:{config.churn_normalization}"],
        "translation": [f"context:{config.context}", "bleu:corpus-smooth-exp-eff-no"],
    }
    itself = "in" if config.committee_churn_includes_self else "out"
    interval = (
        f"multibootstrap-percentile-{100 * config.confidence:g}%-{config.resamples}-seed{config.seed}"
        if config.resamples
        else "none"
    )
    if config.resamples and set(tasks) != {"translation"}:  # of accuracy and churn; corpus BLEU is resampled throughout
        interval = f"components-t-{100 * config.confidence:g}%+{interval}"
    return "|".join(
        (
            "edgewise:1",
            "ties:expected",
            *dict.fromkeys(choice for task, choices in choices_by_task.items() if task in tasks for choice in choices),
            f"committee:{config.committee}",
            *([] if config.committee_size is None else [f"committee_size:{config.committee_size}"]),
            f"committee_churn:self-{itself}",
            "grid:0.01-0.99",
            "se:published",
            f"ci:{interval}",
            *([] if config.cluster == "auto" else [f"cluster:{config.cluster}"]),
        )
    )
