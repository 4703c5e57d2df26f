"""Makes a small translation dataset, one word at a time, and the settings of a model that learns it in seconds."""

import numpy as np

WORDS = ["red", "blue", "green", "black"]
COLOURS = dict(zip(WORDS, ["rot", "blau", "grün", "schwarz"], strict=True))
TINY = [
    *("size.d_model=16", "size.d_kv=8", "size.d_ff=32", "size.layers=1", "size.heads=2"),
    *("train.steps=40", "train.batch_size=16", "tokenizer.vocabulary_size=60", "infer.batch_tokens=400"),
    *("optimizer.learning_rate=0.05", "optimizer.warmup_steps=5", "dataset.max_target_length=8"),
]


def pairs(n: int, seed: int) -> list[dict[str, str]]:
    """Draws `n` rows of one to three colours, with `source` and `target`."""
    rng = np.random.default_rng(seed)
    drawn = [[WORDS[i] for i in rng.integers(0, 4, rng.integers(1, 4))] for _ in range(n)]
    return [{"source": " ".join(words), "target": " ".join(COLOURS[w] for w in words)} for words in drawn]
