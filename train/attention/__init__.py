"""Computes attention, softmax(q kᵀ + bias) v inside each segment, in several ways that differ in memory and speed.

`attend.py` has the one function that the network calls; `choice.py` decides which way it goes, by platform, shapes,
dtype and JAX's version, and remembers what it decided. The ways: `plain.py` all rows at once, which runs everywhere,
and one row after the other, which is faster on a CPU; `cudnn.py` NVIDIA's library; `kernel.py` the project's own
kernels, which `tpu_kernel/` defines for TPUs and `gpu_kernel/` for NVIDIA GPUs. `bias.py` holds a bias that depends
on the distance of two positions alone, and `over_mesh.py` runs on each device of a mesh what XLA can't divide by
itself.

The results are the same up to the order of sums and the rounding of the activations' dtype. Shape names as in
`train.t5`.
"""

from train.attention.attend import attention, takes_distances
from train.attention.bias import DistanceBias
from train.attention.choice import Taken, asking, recording
from train.attention.plain import MASKED, Segments, plain, row_by_row, segment_mask

__all__ = [
    "MASKED",
    "DistanceBias",
    "Segments",
    "Taken",
    "asking",
    "attention",
    "plain",
    "recording",
    "row_by_row",
    "segment_mask",
    "takes_distances",
]
