"""Defines T5, versions 1.0 and 1.1, as Flax NNX modules whose layers are stacked, and run by a loop or written out.

The two versions differ in three places: 1.0 has a ReLU feed-forward, a head tied to the token embedding and logits
scaled by d_model^-½; 1.1 has a gated GELU, a head of its own and no scaling (Raffel et al. 2020, and the T5 1.1
release notes). Parameter names follow T5X, so that a checkpoint maps by name.

Every sequence carries segment ids and positions, so that several short sequences may share a row: attention and the
relative position bias look only inside a segment. Segment 0 is padding. Dropout takes its key as an argument; without
a key, nothing is dropped.

`layers.py` holds what layers are made of, `positions.py` the relative position bias, `multi_head.py` the attention
module (over `train/attention/`), `stacks.py` the encoder and the decoder, `network.py` the whole model and its
parameters, `rows.py` what token ids are turned into before they go in, and `flops.py` what a forward pass costs.

Shape names, here and in the rooms that use this one: B rows, S source length, T target length, D d_model, H heads,
K d_kv, F d_ff, V vocabulary, L layers.
"""

from train.t5.flops import forward_flops
from train.t5.layers import dropout, split_key
from train.t5.multi_head import Attention
from train.t5.network import (
    T5,
    Params,
    abstract_params,
    cast,
    count_parameters,
    init_params,
    model,
    with_vocabulary,
)
from train.t5.positions import relative_buckets
from train.t5.rows import plain_rows, shift_right
from train.t5.stacks import DecoderLayer, Execution, unstacked

__all__ = [
    "T5",
    "Attention",
    "DecoderLayer",
    "Execution",
    "Params",
    "abstract_params",
    "cast",
    "count_parameters",
    "dropout",
    "forward_flops",
    "init_params",
    "model",
    "plain_rows",
    "relative_buckets",
    "shift_right",
    "split_key",
    "unstacked",
    "with_vocabulary",
]
