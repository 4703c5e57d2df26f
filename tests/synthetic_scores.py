"""Synthetic scores grids: sizes × seeds of make-believe classifiers over one shared set of examples.

Each example has a difficulty; a run's logit for the gold class is its size's skill minus that difficulty, plus noise
of the example that every run of a size shares, plus noise of its own. So runs of a size churn where they are
uncertain, and larger sizes gain where the smaller are uncertain, much as fine-tuned models do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metrics.scores import Scores, ScoresMetadata, write_scores

DEFAULT_SIZES = {"small": (60_000_000, 1.5), "base": (220_000_000, 2.2)}  # name -> (parameters, skill in logits)
KINDS = ("easy", "composition", "noise")


def synthetic_grid(
    sizes: Mapping[str, tuple[int, float]] = DEFAULT_SIZES,
    seeds: int | Mapping[str, Sequence[int]] = 3,
    examples: int = 500,
    classes: int = 2,
    dataset: str = "synthetic",
    split: str = "test",
    seed: int = 0,
    seed_noise: float = 0.6,
    slices: bool = True,
    label_tokens: Sequence[int] | None = None,
) -> list[Scores]:
    """Scores of every size × seed, `examples` rows each, sizes in the order given.

    Args:
        sizes: name -> (parameters, skill). A larger skill is more accurate.
        seeds: how many seeds each size has, or the seeds of each size.
        seed_noise: standard deviation of a run's own logit noise; 0 makes all runs of a size alike.
    """
    rng = np.random.default_rng(seed)
    names = np.array([f"class {k}" for k in range(classes)], dtype=object)
    gold = rng.integers(classes, size=examples)
    kind = rng.choice(len(KINDS), size=examples, p=(0.6, 0.3, 0.1))
    # composition is what only skill solves; noise is what nothing solves
    difficulty = np.where(kind == 0, rng.gamma(1.0, 0.5, examples), rng.gamma(4.0, 0.7, examples))
    grid = []
    for size, (parameters, skill) in sizes.items():
        shared = rng.normal(0.0, 1.0, (examples, classes))
        for run_seed in range(seeds) if isinstance(seeds, int) else seeds[size]:
            logits = shared + rng.normal(0.0, seed_noise, (examples, classes))
            logits[np.arange(examples), gold] += 2.0 * (skill - np.where(kind == 2, 1.5, 0.6) * difficulty + 1.0)
            likelihoods = _log_softmax(1.5 * logits).astype(np.float32)
            prediction = names[likelihoods.argmax(axis=1)]
            config = {} if label_tokens is None else {"label_tokens": list(label_tokens)}
            grid.append(
                Scores(
                    metadata=ScoresMetadata(
                        dataset=dataset,
                        size=size,
                        seed=run_seed,
                        split=split,
                        task="classification",
                        classes=list(names),
                        parameters=parameters,
                        flops_per_example=2.0 * parameters * 128,
                        model=f"model-{dataset}-{size}-s{run_seed}",
                        data=f"synthetic-{dataset}-{examples}-{classes}-{seed}",
                        signature="synthetic",
                        config=config,
                    ),
                    example_id=np.array([f"{split}-{i}" for i in range(examples)], dtype=object),
                    target=names[gold],
                    prediction=prediction,
                    correct=prediction == names[gold],
                    class_log_likelihoods=likelihoods,
                    slices={"slice_kind": np.array(KINDS, dtype=object)[kind]} if slices else {},
                )
            )
    return grid


def write_grid(grid: Sequence[Scores], directory: Path | str) -> list[Path]:
    """Writes each run as `scores-D-S-sN-SPLIT.parquet` under `directory` and returns the paths, in order."""
    paths = []
    for scores in grid:
        m = scores.metadata
        paths.append(Path(directory) / f"scores-{m.dataset}-{m.size}-s{m.seed}-{m.split}.parquet")
        write_scores(scores, paths[-1])
    return paths


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
