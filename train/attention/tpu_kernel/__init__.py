"""Computes attention inside segments with a relative bias by one Pallas kernel for TPUs, forward and backward.

A program of the kernel holds the queries, keys and values of one row for as many heads as fill the 128 lanes of a
register, and no weights ever leave the chip's vector memory (VMEM). Arrays stay as the projections leave them,
[B, T, H*K], so nothing is transposed in memory. The backward pass needs the forward pass's inputs alone: it computes
the weights again.

T5's bias depends on the distance between a key and a query alone. The kernel takes one number for each head and each
distance, spreads these numbers to a matrix [T, S] in VMEM before the first row, and sums the gradient of that matrix in
VMEM over all rows; after the last row it is summed along the diagonals. So neither [H, T, S] nor [B, H, T, S] is ever
written to memory.

A program goes over the queries in blocks, and all keys of a row are in one block: a softmax needs no second pass. On a
CPU the kernel runs in Pallas' interpreter, which is slow and is for tests.

`forward.py` and `backward.py` have the two passes, each with its program, which `train.attention.two_passes` joins.
Inside of a program, `bias.py` goes from distances to a matrix and back, and `softmax.py` computes the weights.
`plan.py` cuts the work into programs and the arrays into their blocks.

Shape names as in `train.t5`. T and S, here, are multiples of LANES: `train.attention.kernel` pads.
"""

from train.attention.tpu_kernel.backward import backward_pass
from train.attention.tpu_kernel.forward import forward_pass
from train.attention.tpu_kernel.plan import Plan
from train.attention.two_passes import joined

__all__ = ["Plan", "attend"]

attend = joined(forward_pass, backward_pass)
