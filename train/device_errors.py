"""Says what to do where a device runs out of memory, or where a fused attention does not run on it.

Starts without JAX, whose error it knows by its name.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from conf.errors import EdgewiseError, first_line

OF_TRAINING = (
    "train.remat=dots keeps less for the backward pass and train.remat=full least, mesh=fsdp shares the parameters "
    "among the devices, and neither makes another cell of it; `python -m train.compile` says what a step takes"
)
OF_SCORING = "give infer.batch_tokens fewer positions a batch (default 32,768, on a CPU 4,096)"
_FUSED = ("cudnn", "mosaic", "triton")  # what compiles or runs a fused attention, as errors name it


@contextmanager
def device_errors(remedy: str) -> Iterator[None]:
    """Raises EdgewiseError in the place of JAX's error of a device without memory, or without a fused attention.

    `remedy` says what to do where memory is short. Other errors are left as they are.
    """
    try:
        yield
    except RuntimeError as error:
        if (trouble := _trouble(error, remedy)) is None:
            raise
        raise trouble from error


def _trouble(error: RuntimeError, remedy: str) -> EdgewiseError | None:
    """Returns what to tell the person; None for an error of another kind."""
    if type(error).__name__ != "JaxRuntimeError":
        return None
    said = first_line(error)
    if said.startswith("RESOURCE_EXHAUSTED"):
        return EdgewiseError(f"a device ran out of memory ({said}): {remedy}")
    if any(name in str(error).lower() for name in _FUSED):
        return EdgewiseError(
            f"a fused attention does not run on this device ({said}): train.attention=plain does without it, and makes "
            "no other cell"
        )
    return None
