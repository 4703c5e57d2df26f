"""Makes synthetic scores grids: sizes × seeds of make-believe models over one shared set of examples, for each task.

Each example has a difficulty; how sure a run is of the gold answer is its size's skill minus that difficulty, plus
noise of the example that every run of a size shares, plus noise of its own. So runs of a size churn where they are
uncertain, and larger sizes gain where the smaller are uncertain, much as fine-tuned models do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metrics.scores import Scores, ScoresMetadata, TokenScores, write_scores
from metrics.statistics.text import bleu_signature, bleu_statistics, exact_match

DEFAULT_SIZES = {"small": (60_000_000, 1.5), "base": (220_000_000, 2.2)}  # name -> (parameters, skill in logits)
KINDS = ("easy", "composition", "noise")
WORDS = tuple(f"w{k}" for k in range(20))

Sizes = Mapping[str, tuple[int, float]]
Seeds = int | Mapping[str, Sequence[int]]


def synthetic_grid(
    sizes: Sizes = DEFAULT_SIZES,
    seeds: Seeds = 3,
    examples: int = 500,
    classes: int = 2,
    dataset: str = "synthetic",
    split: str = "test",
    seed: int = 0,
    seed_noise: float = 0.6,
    slices: bool = True,
    label_tokens: Sequence[int] | None = None,
    task: str = "classification",
) -> list[Scores]:
    """Makes the scores of every size × seed, `examples` rows each, sizes in the order given.

    Args:
        sizes: name -> (parameters, skill). A larger skill is more accurate.
        seeds: how many seeds each size has, or the seeds of each size.
        examples: how many rows each run has.
        classes: how many classes there are; for classification alone.
        dataset: the name in the metadata.
        split: the name in the metadata, and the start of each example's id.
        seed: what the random numbers are drawn from.
        seed_noise: standard deviation of a run's own logit noise; 0 makes all runs of a size alike.
        slices: whether there is a column `slice_kind`.
        label_tokens: the token count of each class's label, for the metadata; for classification alone.
        task: classification, span_qa or translation.

    """
    return list(
        synthetic_runs(
            sizes=sizes,
            seeds=seeds,
            examples=examples,
            classes=classes,
            dataset=dataset,
            split=split,
            seed=seed,
            seed_noise=seed_noise,
            slices=slices,
            label_tokens=label_tokens,
            task=task,
        )
    )


def synthetic_runs(
    sizes: Sizes,
    seeds: Seeds,
    examples: int,
    classes: int = 2,
    dataset: str = "synthetic",
    split: str = "test",
    seed: int = 0,
    seed_noise: float = 0.6,
    slices: bool = True,
    label_tokens: Sequence[int] | None = None,
    task: str = "classification",
) -> Iterator[Scores]:
    """Makes each run of `synthetic_grid` when it is asked for, as hundreds of millions of rows don't fit memory."""
    rng = np.random.default_rng(seed)
    make = {"classification": _classification, "span_qa": _span_qa, "translation": _translation}[task]
    names = [f"class {k}" for k in range(classes)] if task == "classification" else []
    config = {} if label_tokens is None else {"label_tokens": list(label_tokens)}
    for size, run_seed, kind, columns in make(rng, sizes, seeds, examples, names, seed_noise):
        parameters = sizes[size][0]
        metadata = ScoresMetadata(
            dataset=dataset,
            size=size,
            seed=run_seed,
            split=split,
            task=task,
            classes=list(names),
            parameters=parameters,
            flops_per_example=2.0 * parameters * 128,
            model=f"model-{dataset}-{size}-s{run_seed}",
            data=f"synthetic-{dataset}-{examples}-{len(names)}-{seed}",
            signature=f"synthetic|{bleu_signature()}" if task == "translation" else "synthetic",
            config=dict(config),
        )
        ids = np.array([f"{split}-{i}" for i in range(examples)], dtype=object)
        sliced = {"slice_kind": np.array(KINDS, dtype=object)[kind]} if slices else {}
        yield Scores(metadata=metadata, example_id=ids, slices=sliced, **columns)


def write_grid(grid: Iterable[Scores], directory: Path | str) -> list[Path]:
    """Writes each run as `scores-D-S-sN-SPLIT.parquet` under `directory` and returns the paths, in order."""
    paths = []
    for scores in grid:
        m = scores.metadata
        paths.append(Path(directory) / f"scores-{m.dataset}-{m.size}-s{m.seed}-{m.split}.parquet")
        write_scores(scores, paths[-1])
    return paths


SyntheticRun = tuple[str, int, np.ndarray, dict[str, Any]]  # size, seed, kind of each example, columns


def _classification(
    rng: np.random.Generator, sizes: Sizes, seeds: Seeds, examples: int, classes: list[str], seed_noise: float
) -> Iterator[SyntheticRun]:
    names = np.array(classes, dtype=object)
    gold = rng.integers(len(classes), size=examples)
    kind, difficulty = _difficulty(rng, examples)
    for size, (_, skill) in sizes.items():
        shared = rng.normal(0.0, 1.0, (examples, len(classes)))
        for run_seed in range(seeds) if isinstance(seeds, int) else seeds[size]:
            logits = shared + rng.normal(0.0, seed_noise, (examples, len(classes)))
            logits[np.arange(examples), gold] += 2.0 * (skill - np.where(kind == 2, 1.5, 0.6) * difficulty + 1.0)
            likelihoods = _log_softmax(1.5 * logits).astype(np.float32)
            prediction = names[likelihoods.argmax(axis=1)]
            columns = {
                "target": names[gold],
                "prediction": prediction,
                "correct": prediction == names[gold],
                "class_log_likelihoods": likelihoods,
            }
            yield size, run_seed, kind, columns


def _span_qa(
    rng: np.random.Generator, sizes: Sizes, seeds: Seeds, examples: int, classes: list[str], seed_noise: float
) -> Iterator[SyntheticRun]:
    """Makes answers of one to four words. Half of the right ones are worded differently; some have a second gold."""
    kind, difficulty = _difficulty(rng, examples)
    answers = _sentences(rng, examples, 1, 5)
    second = [answer if rng.random() < 0.7 else answer.split()[0] for answer in answers]
    wrong = _sentences(rng, 3 * examples, 1, 5)
    for size, run_seed, sure in _sureness(rng, sizes, seeds, kind, difficulty, seed_noise):
        prediction = []
        for i, (answer, other) in enumerate(zip(answers, second)):
            right = (answer, f"The {answer}.", other)[rng.choice(3, p=(0.5, 0.3, 0.2))]
            prediction.append(right if sure[i] > 0 else wrong[3 * i + rng.integers(3)])
        correct = np.array([exact_match(p, gold) for p, gold in zip(prediction, zip(answers, second))])
        lengths = np.array([len(a.split()) + 1 for a in answers]), np.array([len(p.split()) + 1 for p in prediction])
        columns = {
            "target": np.array(answers, dtype=object),
            "prediction": np.array(prediction, dtype=object),
            "correct": correct,
            "gold_tokens": _tokens(rng, sure, lengths[0]),
            "self_tokens": _tokens(rng, np.abs(sure), lengths[1]),
        }
        yield size, run_seed, kind, columns


def _translation(
    rng: np.random.Generator, sizes: Sizes, seeds: Seeds, examples: int, classes: list[str], seed_noise: float
) -> Iterator[SyntheticRun]:
    """Makes sentences of four to twenty words; the less sure a run is, the more words it gets wrong or leaves out."""
    kind, difficulty = _difficulty(rng, examples)
    references = [sentence.split() for sentence in _sentences(rng, examples, 4, 21)]
    for size, run_seed, sure in _sureness(rng, sizes, seeds, kind, difficulty, seed_noise):
        prediction = []
        for i, words in enumerate(references):
            error = 1.0 / (1.0 + np.exp(0.9 * sure[i] + 0.8))
            drawn, other = rng.random(len(words)), rng.integers(len(WORDS), size=len(words))
            written = [word if d > error else WORDS[o] for word, d, o in zip(words, drawn, other) if d > error / 6]
            prediction.append(" ".join(written))
        target = [" ".join(words) for words in references]
        lengths = np.array([len(w) + 1 for w in references]), np.array([len(p.split()) + 1 for p in prediction])
        columns = {
            "target": np.array(target, dtype=object),
            "prediction": np.array(prediction, dtype=object),
            "correct": None,
            "gold_tokens": _tokens(rng, sure, lengths[0]),
            "self_tokens": _tokens(rng, np.abs(sure), lengths[1]),
            "bleu_stats": bleu_statistics(prediction, target),
        }
        yield size, run_seed, kind, columns


def _difficulty(rng: np.random.Generator, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws each example's kind and difficulty: composition is what only skill solves, noise what nothing solves."""
    kind = rng.choice(len(KINDS), size=examples, p=(0.6, 0.3, 0.1))
    return kind, np.where(kind == 0, rng.gamma(1.0, 0.5, examples), rng.gamma(4.0, 0.7, examples))


def _sureness(
    rng: np.random.Generator, sizes: Sizes, seeds: Seeds, kind: np.ndarray, difficulty: np.ndarray, seed_noise: float
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yields the size and seed of each run, and how sure it is of each gold answer, [n], in logits."""
    for size, (_, skill) in sizes.items():
        shared = rng.normal(0.0, 1.0, len(kind))
        for run_seed in range(seeds) if isinstance(seeds, int) else seeds[size]:
            own = rng.normal(0.0, seed_noise, len(kind))
            yield size, run_seed, shared + own + 2.0 * (skill - np.where(kind == 2, 1.5, 0.6) * difficulty + 0.3)


def _tokens(rng: np.random.Generator, sure: np.ndarray, lengths: np.ndarray) -> TokenScores:
    """Draws token scores of n sequences of `lengths` tokens; a surer run has likelier tokens and wider margins."""
    logits = np.repeat(sure, lengths) + rng.normal(0.0, 1.0, lengths.sum()) + 1.0
    p = 1.0 / (1.0 + np.exp(-logits))
    most = 1.0 / (1.0 + np.exp(-np.where(logits > 0, logits, -0.3 * logits)))  # where wrong, it is rarely sure
    return TokenScores(
        log_probs=np.log(p).astype(np.float32),
        margins=(2.0 * most - 1.0).astype(np.float32),
        entropies=((1.0 - most) * rng.uniform(2.0, 6.0, len(most))).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def _sentences(rng: np.random.Generator, count: int, least: int, most: int) -> list[str]:
    """Draws sentences of `least` to `most - 1` words each."""

    lengths = rng.integers(least, most, size=count)
    words = np.array(WORDS)[rng.integers(len(WORDS), size=lengths.sum())]
    return [" ".join(part) for part in np.split(words, np.cumsum(lengths)[:-1])]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_softmax
