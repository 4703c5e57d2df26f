"""Holds the small models that decoding is tested with, and what one and eight devices make of them.

`python -m tests.decoding` prints the latter as JSON. It is a process of its own, because the number of the CPU's
devices is fixed when JAX starts.
"""

import functools
import json
from typing import Any

import jax
import numpy as np

from conf.schema import Mesh, Size
from infer.decode import as_encoded, decode_examples
from infer.sequences import score_sequences, sequence_batches
from tests.texts import encoded, random_texts
from train import t5
from train.data.batches import Budget, scoring_batches
from train.running_model import RunningModel
from train.sharding import make_mesh, state_shardings

MAX_LENGTH = 10
# a vocabulary this small lets random models end early, late and not at all
TINY = Size(name="tiny", d_model=16, d_kv=8, d_ff=24, layers=2, heads=2, vocabulary_size=12, relative_buckets=8)
SIZES = {
    "1.0": TINY,
    "1.1": Size(**(vars(TINY) | {"activation": "gated_gelu", "tied_head": False, "decoder_layers": 3})),
}


@functools.cache
def parameters(version: str, seed: int = 0) -> t5.Params:
    """Returns random parameters of a size in SIZES."""
    params = t5.init_params(SIZES[version], jax.random.key(seed))
    noise = jax.random.key(seed + 1000)
    noisy: t5.Params = jax.tree.map(lambda x: x * (1.5 + 0.3 * jax.random.normal(noise, x.shape)), params)
    return noisy


def decoded_and_scored(mesh: jax.sharding.Mesh, params: t5.Params) -> dict[str, Any]:
    """Returns the outputs of eleven texts by two beams, and the outputs' scores, as JSON values."""
    model = RunningModel(params, SIZES["1.1"], "float32", mesh)
    inputs = encoded([np.minimum(text, 11) for text in random_texts(11, 12, 3)])
    batches = scoring_batches(inputs.lengths, Budget(8 * (12 + 2 * MAX_LENGTH), lambda _: 2 * MAX_LENGTH, 4), 1)
    assert [batch.row_count for batch in batches] == [8, 8]
    outputs: list[np.ndarray] = [np.zeros(0, np.int32)] * 11
    for rows, ids in decode_examples(model, inputs, batches, MAX_LENGTH, 2, 0.6):
        for row, output in zip(rows, ids, strict=True):
            outputs[row] = output
    texts = as_encoded(outputs)
    scores: list[list[list[float]]] = [[]] * 11
    plan = sequence_batches(batches, texts.lengths, 200, 4, 0.5, 1)
    for rows, [batch_scores] in score_sequences(model, inputs, [texts], plan):
        for row, score in zip(rows, batch_scores, strict=True):
            scores[row] = [value.tolist() for value in score]
    return {"ids": [ids.tolist() for ids in outputs], "scores": scores}


def main() -> None:
    """Prints what one device makes of the texts, and what eight do."""
    params = parameters("1.1", 1)
    eight = make_mesh(Mesh(data=2, fsdp=2, tensor=2))
    sharded = jax.device_put(params, state_shardings(eight, params))
    assert len(sharded["decoder"]["layers"]["mlp"]["wi_0"]["kernel"].sharding.device_set) == 8
    one = jax.make_mesh((1, 1, 1), eight.axis_names, axis_types=eight.axis_types, devices=jax.devices()[:1])
    print(json.dumps([decoded_and_scored(one, params), decoded_and_scored(eight, sharded)]))


if __name__ == "__main__":
    main()
