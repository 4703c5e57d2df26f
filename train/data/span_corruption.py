"""Makes T5's span-corruption examples: spans of a row of tokens are taken out, and the model has to write them.

Each span is replaced in the input by a sentinel; the target lists the sentinels, each followed by the tokens that it
stands for, and ends with one more sentinel and EOS (Raffel et al. 2020, section 3.1.4 and Figure 2). T5's own code
draws the spans as this module does (`random_spans_noise_mask`), and leaves out the last sentinel.
"""

from dataclasses import dataclass

import numpy as np

from conf.errors import EdgewiseError
from train.data.tokens import EOS, SENTINELS


@dataclass(frozen=True)
class SpanCounts:
    """Says how many of a row's `tokens` are taken out, in how many spans; both follow from the row's length."""

    tokens: int
    noise_tokens: int
    spans: int

    @property
    def input_length(self) -> int:
        """Returns the length of a corrupted input: the tokens that stay, a sentinel for each span, and EOS."""
        return self.tokens - self.noise_tokens + self.spans + 1

    @property
    def target_length(self) -> int:
        """Returns the length of a target: the tokens taken out, a sentinel before each span and one last, and EOS."""
        return self.noise_tokens + self.spans + 2


def span_counts(tokens: int, noise_density: float, mean_span_length: float) -> SpanCounts:
    """Returns the counts for a row of `tokens` tokens, 2 or more, as T5's `random_spans_noise_mask` has them.

    The share `noise_density`, in (0, 1), of the tokens is taken out, rounded, but not none and not all of them. The
    spans have `mean_span_length` tokens on average, 1 or more; there is at least one, and a token before each.
    """
    noise = min(max(round(tokens * noise_density), 1), tokens - 1)
    spans = min(max(round(noise / mean_span_length), 1), noise, tokens - noise)
    return SpanCounts(tokens, noise, spans)


def fullest_row(input_length: int, noise_density: float, mean_span_length: float) -> SpanCounts:
    """Returns the counts of the longest row of tokens whose corrupted input has at most `input_length` positions.

    So inputs of one length are full: of 512 positions, at T5's density 0.15 and mean length 3, these are 568 tokens.
    Raises EdgewiseError for lengths into which no row fits, and for more spans than T5 has sentinels.
    """
    settings = (
        f"dataset.max_input_length={input_length} train.noise_density={noise_density} "
        f"train.mean_noise_span_length={mean_span_length}"
    )
    found = None
    for tokens in range(2, int((input_length + 1) / (1 - noise_density)) + 2):
        counts = span_counts(tokens, noise_density, mean_span_length)
        if counts.input_length <= input_length:
            found = counts
    if found is None:
        raise EdgewiseError(f"{settings}: expected rows of 3 positions or more; give a larger dataset.max_input_length")
    if found.spans >= SENTINELS:
        raise EdgewiseError(
            f"{settings}: a row has {found.spans} spans, and needs a sentinel for each and one more; expected at most "
            f"{SENTINELS}, which T5 has. Give shorter rows or longer spans"
        )
    return found


def noise_mask(counts: SpanCounts, rng: np.random.Generator) -> np.ndarray:
    """Returns which tokens of a row are taken out, [tokens] bool, drawn by `rng`.

    Kept and taken pieces take turns, a kept one first, as many of each as there are spans. Each way to cut the taken
    tokens into so many pieces is as likely as any other, and so it is with the kept ones.
    """
    kept = _piece_lengths(counts.tokens - counts.noise_tokens, counts.spans, rng)
    taken = _piece_lengths(counts.noise_tokens, counts.spans, rng)
    return np.repeat(np.tile([False, True], counts.spans), np.stack([kept, taken], axis=1).reshape(-1))


def _piece_lengths(items: int, pieces: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the lengths of `pieces` pieces, each 1 or more, that `items` items are cut into: [pieces] int64."""
    cuts = np.sort(rng.permutation(items - 1)[: pieces - 1]) + 1
    return np.diff(cuts, prepend=0, append=items)


def corrupted(tokens: np.ndarray, masks: np.ndarray, sentinels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corrupted inputs and the targets of rows of tokens.

    `tokens` [R, L] integer; `masks` [R, L] bool, as `noise_mask` returns them, with as many spans and taken tokens in
    each row; `sentinels` [n] integer are the ids of <extra_id_0>, <extra_id_1>, …, one more than there are spans or
    more. Returns inputs [R, S] and targets [R, T], both int32 and without padding.
    """
    rows = len(tokens)
    before = np.pad(masks, [(0, 0), (1, 0)])[:, :-1]
    starts = masks & ~before  # [R, L]: the first token of each span
    number = np.cumsum(starts, axis=1) - 1  # [R, L]: which span a taken token is in
    inputs = np.where(starts, sentinels[number], tokens)[~masks | starts].reshape(rows, -1)
    spans = int(starts[0].sum())
    # Of the target, each span's first token is two positions: the sentinel, and the token itself.
    taken = np.stack([sentinels[number], tokens], axis=2)[np.stack([starts, masks], axis=2)].reshape(rows, -1)
    end = np.full((rows, 1), EOS)
    targets = np.concatenate([taken, np.full((rows, 1), sentinels[spans]), end], axis=1)
    return np.concatenate([inputs, end], axis=1).astype(np.int32), targets.astype(np.int32)


def corrupted_rows(
    tokens: np.ndarray, numbers: np.ndarray, seed: int, epochs: np.ndarray, counts: SpanCounts, sentinels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs and targets of rows `numbers` [R], whose spans follow from (seed, epoch, row) alone.

    `tokens` [R, counts.tokens] integer are the rows themselves, `epochs` [R] the epoch that each is taken in. The rest
    is as in `corrupted`.
    """
    masks = np.stack(
        [
            noise_mask(counts, np.random.default_rng([seed, epoch, number]))
            for epoch, number in zip(epochs.tolist(), numbers.tolist(), strict=True)
        ]
    )
    return corrupted(tokens, masks, sentinels)
