"""Makes small data sets whose answers are text, and says how a cell learns from them in seconds."""

import numpy as np

WORDS = ["red", "blue", "green", "black"]
COLOURS = dict(zip(WORDS, ["rot", "blau", "grün", "schwarz"], strict=True))
TOY_CELL = (
    "size.d_model=16",
    "size.d_kv=8",
    "size.d_ff=32",
    "size.layers=1",
    "size.heads=2",
    "train.steps=40",
    "train.batch_size=16",
    "tokenizer.vocabulary_size=60",
    "infer.batch_tokens=400",
    "optimizer.learning_rate=0.05",
    "optimizer.warmup_steps=5",
    "dataset.max_target_length=8",
)


def translations(n: int, seed: int) -> list[dict[str, str]]:
    """Returns `n` rows of one to three English colours and their German translation."""
    rng = np.random.default_rng(seed)
    drawn = [[WORDS[i] for i in rng.integers(0, 4, rng.integers(1, 4))] for _ in range(n)]
    return [{"source": " ".join(words), "target": " ".join(COLOURS[w] for w in words)} for words in drawn]


def questions(n: int, seed: int) -> list[dict[str, object]]:
    """Returns `n` questions for the first of two colours, every other one with two gold answers."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for i in range(n):
        first, second = (WORDS[k] for k in rng.permutation(4)[:2])
        answers = [f"The {first}.", first] if i % 2 else [first]
        rows.append({"id": f"q{i}", "question": "first?", "context": f"{first} then {second}", "answers": answers})
    return rows
