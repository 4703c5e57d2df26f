"""Computes attention inside segments with a relative bias by Pallas kernels for NVIDIA GPUs, forward and backward.

Pallas hands these kernels to Triton, which compiles them. A program of a kernel has a block of queries or of keys of
one head and one row, and reads the other side block by block, so no weights are ever written to memory: a softmax is
summed up on the way, relative to the largest logit so far. The backward pass computes the weights again from the
logarithm of each query's sum, in three kernels: for the gradients of keys and values, for that of queries, and for that
of the bias. Each adds up its sums in a fixed order.

T5's bias depends on the distance between a key and a query alone, so the kernels read one number for each head and each
distance. The bias's gradient is added up in one small square for each distance between a block of keys and a block of
queries, and these squares are summed along their diagonals outside of the kernel. Neither [H, T, S] nor [B, H, T, S] is
ever written to memory.

A block of keys that no query of a block sees is not read: of a row with several segments most are left out.

`forward.py` and `backward.py` have the two passes with their kernels, which `train.attention.two_passes` joins. Inside
of a kernel, `blocks.py` reads what a program works on, and `weights.py` computes with it. `plan.py` says how kernels
are compiled, and runs one; `visible_blocks.py` says which blocks are read.

Shape names as in `train.t5`. T and S, here, are multiples of `Plan.kept`: `train.attention.kernel` pads. On a CPU the
kernels run in Pallas' interpreter, which is slow and is for tests. No chip has run them yet; that they fit one is known
from compiling them ahead of time, which `python -m bench.attention_on_gpu --compile h200` does.
"""

from train.attention.gpu_kernel.backward import backward_pass
from train.attention.gpu_kernel.forward import forward_pass
from train.attention.gpu_kernel.plan import Plan
from train.attention.two_passes import joined

__all__ = ["Plan", "attend"]

attend = joined(forward_pass, backward_pass)
