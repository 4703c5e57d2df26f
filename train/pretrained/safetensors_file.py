"""Finds where each tensor of a safetensors file lies, by the header that the safetensors library has validated."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from conf.errors import EdgewiseError, first_line

DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}


class Entry(NamedTuple):
    """Says where a tensor lies: in which file, `offset` bytes from its start, in row-major order."""

    file: Path
    dtype: str  # as the format calls it: F32, BF16, I64
    shape: tuple[int, ...]
    offset: int


def entries(file: Path) -> dict[str, Entry]:
    """Returns the tensors of a file, by name.

    The library refuses a header whose offsets overlap, leave holes or don't fit the tensors' sizes or the file's. It
    gives no offsets itself, but the tensors' order: they follow each other without holes from the header's end on.

    Raises EdgewiseError for a file that is damaged or is no safetensors file, and for tensors of a dtype that can't be
    read here.
    """
    with _damage_as_error(file), safe_open(file, framework="np") as opened:
        with file.open("rb") as stream:
            offset = 8 + struct.unpack("<Q", stream.read(8))[0]
        found: dict[str, Entry] = {}
        for name in opened.offset_keys():
            part = opened.get_slice(name)
            found[name] = Entry(file, part.get_dtype(), tuple(part.get_shape()), offset)
            if found[name].dtype not in DTYPES:
                raise EdgewiseError(
                    f"{file}: {name} has the dtype {found[name].dtype}, expected one of {', '.join(DTYPES)}"
                )
            offset += DTYPES[found[name].dtype].itemsize * int(np.prod(found[name].shape, dtype=np.int64))
    return found


def tensor_names(file: Path) -> list[str]:
    """Returns the names of a file's tensors. Raises EdgewiseError as `entries` does."""
    with _damage_as_error(file), safe_open(file, framework="np") as opened:
        return list(opened.keys())


def read_rows(entry: Entry, start: int, stop: int) -> np.ndarray:
    """Returns rows `start` to `stop` of a tensor's first axis, in its own dtype.

    They are read by position, not mapped into memory: pages once touched would stay there beside the parameters.
    """
    dtype, width = DTYPES[entry.dtype], int(np.prod(entry.shape[1:], dtype=np.int64))
    offset = entry.offset + start * width * dtype.itemsize
    data = np.fromfile(entry.file, dtype, count=(stop - start) * width, offset=offset)
    return data.reshape(stop - start, *entry.shape[1:])


@contextmanager
def _damage_as_error(file: Path) -> Iterator[None]:
    """Raises what the file and the library raise for a damaged file as EdgewiseError."""
    try:
        yield
    except (OSError, SafetensorError, struct.error) as error:
        raise EdgewiseError(
            f"{file} is damaged or is no safetensors file ({first_line(error)}): download or train it again"
        ) from None
