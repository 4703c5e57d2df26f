"""Computes label log-likelihoods: each example is encoded once, and all label strings are scored in one decoder call.

The label strings lie in one decoder row as a tree (`train.label_tree`): what several of them begin with stands there
once, and each label sees the example and its own tokens alone. Where the tree has more positions than the example, and
more than CALL_POSITIONS, the labels are cut into groups, a tree and a decoder call each; the example is still encoded
once. Each call makes the input's keys and values anew, which costs little beside a call of as many positions as the
input has.

So memory does not grow with the number of labels, except for the result, and a batch is counted by what one call holds:
`label_budget`. With B rows, S source positions, N positions of a call, H heads and the vocabulary V, the decoder holds,
beside its activations of a call's positions:
- logits of at most LOGITS_BYTES, because the head runs over slices of positions; or of one position of every row,
  4·B·V bytes, where that is more, as it is of very many rows of few tokens (more than 2,088 with T5's vocabulary);
- attention of one layer between a call's positions of at most ATTENTION_BYTES, or of one label, 4·B·H·N², where that is
  more; and to the input, which is less than that or than the encoder's own, 4·B·H·S².
Each of them may take twice that: in bfloat16 beside float32, or a sum's terms beside the sum. The log-probabilities of
what may follow each position take no more than attention of one head.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from conf.schema import Infer, Size
from train import hosts, t5
from train.attention import asking
from train.data.batches import Budget, ScoringBatch
from train.data.prefetch import in_flight
from train.data.tokens import Encoded
from train.head import over_positions
from train.label_tree import Labels, LabelTree
from train.running_model import RunningModel
from train.sharding import BATCH, batches_in_flight, on_mesh, platform_of, scan, scoring_tokens, whole_rows

CALL_POSITIONS = 64  # what a decoder call may have, even where its input is shorter
LOGITS_BYTES = 256 * 2**20  # what the float32 logits of one slice of positions may take
ROWS_A_LENGTH = 4096  # of an accelerator, which scores as many rows in the seconds that another length takes to compile
ATTENTION_BYTES = 256 * 2**20  # what a layer's float32 attention between the positions of one decoder call may take


def label_log_likelihoods(params: t5.Params, inputs: jax.Array, tree: LabelTree, size: Size, dtype: str) -> jax.Array:
    """Returns log p(label string + EOS | input), summed over tokens and unnormalised: [B, K] float32.

    inputs [B, S] int32, padded with 0; `tree` holds the K labels, and `max_call_positions` says how many positions a
    call of it may have. `dtype` is the activations', "float32" or "bfloat16".
    """
    model = t5.model(size, params)
    outputs = jnp.asarray(tree.outputs) if len(tree.outputs) else None
    segments, _ = t5.plain_rows(inputs)
    memory = model.encode(inputs, segments, None, jnp.dtype(dtype))
    rows = inputs.shape[0]

    def in_every_row(x: jax.Array) -> jax.Array:
        """Repeats [N, …] as [B, N, …]."""
        return jnp.broadcast_to(x, (rows, *x.shape))

    def score_call(_: None, call: tuple[jax.Array, ...]) -> tuple[None, jax.Array]:
        """Returns the log-likelihoods [B, M] of the labels of one decoder call."""
        tokens, depths, visible, following, edges = call
        one_segment = jnp.ones((rows, len(tokens)), jnp.int32)
        hidden = model.hidden_states(
            in_every_row(tokens), one_segment, depths[None], memory, segments, visible=visible[None]
        )  # [B, N, D]
        followed = in_every_row(following)
        log_probs = over_positions(model, hidden, followed, log_probabilities, LOGITS_BYTES, outputs)  # [B, N, E]
        token_log_probs = log_probs.reshape(rows, -1)[:, edges]  # [B, N*E] -> [B, M, T]
        return None, jnp.where(edges >= 0, token_log_probs, 0.0).sum(axis=-1)

    calls = (tree.tokens, tree.depths, tree.visible, tree.following, tree.edges)
    _, scores = scan(score_call, None, calls)  # [G, B, M]
    by_label: jax.Array = jnp.moveaxis(scores, 0, 1).reshape(rows, -1)[:, tree.order]  # [B, G*M] -> [B, K]
    return by_label


def log_probabilities(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns log p of each of several tokens: logits [B, T, V] float32, targets [B, T, E] int32 -> [B, T, E] float32.

    The result is that of `jax.nn.log_softmax` at `targets`, without another array of the size of the logits.
    """
    chosen = jnp.take_along_axis(logits, targets, axis=-1)
    return chosen - jax.nn.logsumexp(logits, axis=-1, keepdims=True)


def max_call_positions(size: Size, rows: int, length: int) -> int:
    """Returns how many positions a decoder call of `Labels.tree` may have beside inputs of shape [rows, length]."""
    # 4 bytes for each head's weights of a pair of positions in a row, and for its buckets, which the bias spells out
    pairs = ATTENTION_BYTES // (4 * (rows * size.heads + size.relative_buckets))
    return max(1, min(max(length, CALL_POSITIONS), math.isqrt(pairs)))


def label_budget(tokens: int, labels: Labels, row_multiple: int = 1) -> Budget:
    """Returns what a batch may hold, at most `tokens` positions, of inputs that are scored against `labels`.

    The outputs of a row are the positions of one decoder call: the labels' whole tree, or as much of it as
    CALL_POSITIONS or the input's length allow, and one label at least. The calls come one after the other, so those of
    many labels don't add up. Rows come in multiples of `row_multiple`.
    """
    return Budget(tokens, lambda length: labels.positions(max(length, CALL_POSITIONS)), row_multiple)


def scoring_budget(infer: Infer, labels: Labels, mesh: jax.sharding.Mesh) -> Budget:
    """Returns the `label_budget` of a batch that is scored on `mesh`, whose devices share it by whole rows."""
    budget = label_budget(scoring_tokens(infer, mesh), labels, whole_rows(mesh, 1))
    return budget if platform_of(mesh) == "cpu" else dataclasses.replace(budget, rows_a_length=ROWS_A_LENGTH)


@functools.lru_cache(maxsize=32)
def compile_label_scoring(
    size: Size, dtype: str, mesh: jax.sharding.Mesh, attention: str = "auto"
) -> Callable[..., jax.Array]:
    """Returns `label_log_likelihoods`, jitted for this mesh: (params, inputs, tree) -> [B, K] float32, replicated.

    `attention` is the way that is asked for, as in `train.attention`.
    """
    scoring = asking(functools.partial(label_log_likelihoods, size=size, dtype=dtype), attention)
    return jax.jit(on_mesh(scoring, mesh), out_shardings=jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def as_labels(encoded: Encoded, alone: bool = False) -> Labels:
    """Returns encoded label strings as Labels; with `alone` the softmax is over their tokens alone."""
    return Labels(encoded.padded(np.arange(len(encoded)), int(encoded.lengths.max())), alone)


def score_examples(
    model: RunningModel, inputs: Encoded, labels: Labels, batches: Sequence[ScoringBatch]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (rows [b], log-likelihoods [b, K] float32) batch by batch; `batches` are as `scoring_batches` cuts them.

    `inputs` are the encoded texts whose rows `batches` names. A batch short of rows is filled up with empty ones, so
    that only the shapes in `batches` compile. An accelerator has its next batch before the results of one are read, and
    parameters are cast once for all batches.
    """
    model = model.cast()
    started = ((batch.rows, start_scoring(model, inputs, labels, batch)) for batch in batches)
    for rows, scores in in_flight(started, batches_in_flight(model.mesh)):
        yield rows, np.asarray(scores)[: len(rows)]


def start_scoring(model: RunningModel, inputs: Encoded, labels: Labels, batch: ScoringBatch) -> jax.Array:
    """Starts the scoring of one batch and returns [row_count, K] float32, of which the first b rows are the batch's.

    The devices may still be at work: whoever reads the values waits. The model's parameters are cast already.
    """
    rows, length, row_count = batch
    ids = hosts.on_devices(inputs.padded(rows, length, row_count), jax.sharding.NamedSharding(model.mesh, BATCH))
    tree = labels.tree(max_call_positions(model.size, row_count, length))
    compiled = compile_label_scoring(model.size, model.dtype, model.mesh, model.attention)
    return compiled(model.params, ids, tree)


def hits_and_loss(
    model: RunningModel, inputs: Encoded, truth: np.ndarray, labels: Labels, batches: Sequence[ScoringBatch]
) -> tuple[int, float]:
    """Counts the examples whose likeliest label is `truth` [n] (indices into the K labels), and sums -log p(truth).

    The sum is in nats, over all examples and their labels' tokens. The other arguments are those of `score_examples`.
    """
    hits, loss = 0, 0.0
    for rows, scores in score_examples(model, inputs, labels, batches):
        hits += int((scores.argmax(axis=1) == truth[rows]).sum())
        loss -= float(scores[np.arange(len(rows)), truth[rows]].sum(dtype=np.float64))
    return hits, loss
