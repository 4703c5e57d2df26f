"""Packs columns for the page's script: little-endian numbers and UTF-8 text, gzipped, in base64, in a JSON block.

The block names each column with its type, where it starts and how many numbers it holds, so that the script reads a
typed array without parsing it. The script unpacks a block when its part of the page comes into view.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_TYPES = {"u1": "Uint8Array", "u2": "Uint16Array", "u4": "Uint32Array", "f4": "Float32Array", "f8": "Float64Array"}
_ALIGNED = 8  # a typed array starts at a multiple of its item's size


class Pack:
    """Collects named columns, which are written as one block."""

    def __init__(self) -> None:
        self._columns: dict[str, dict[str, Any]] = {}
        self._parts: list[bytes] = []
        self._length = 0

    def add(self, name: str, values: np.ndarray) -> None:
        """Adds a column of numbers, of any shape, in C order; uint8, uint16, uint32, float32 or float64."""
        kind = f"{values.dtype.kind}{values.dtype.itemsize}"
        start = self._append(np.ascontiguousarray(values).astype(f"<{kind}", copy=False).tobytes())
        self._columns[name] = {"type": _TYPES[kind], "start": start, "length": values.size}

    def add_texts(self, name: str, texts: Sequence[str]) -> None:
        """Adds a column of texts: `NAME` holds their bytes, `NAME.ends` where each one ends."""
        encoded = [text.encode("utf-8", "replace") for text in texts]
        self.add(f"{name}.ends", np.cumsum([len(text) for text in encoded], dtype=np.uint32))
        self.add(name, np.frombuffer(b"".join(encoded), dtype=np.uint8))

    def add_joined(self, name: str, texts: Sequence[str]) -> None:
        """Adds a column of texts that is quickly read and searched as a whole: a NUL stands between any two.

        In a text itself a NUL becomes U+FFFD, the character for what can't be shown.
        """
        joined = "\0".join(text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in texts)
        self.add(name, np.frombuffer(joined.encode("utf-8", "replace"), dtype=np.uint8))

    def add_codes(self, name: str, codes: np.ndarray, count: int) -> None:
        """Adds a column of integers from 0 to `count` - 1, in as few bytes as hold them."""
        self.add(name, codes.astype(np.uint8 if count <= 2**8 else np.uint16 if count <= 2**16 else np.uint32))

    def block(self, **header: Any) -> dict[str, Any]:
        """Returns the content of a block for `json_block`: `header`, which is JSON, and the columns."""
        # mtime 0: the same columns give the same bytes; level 4 takes a third of level 6's time for 1.3 % more bytes
        zipped = gzip.compress(b"".join(self._parts), compresslevel=4, mtime=0)
        return {**header, "columns": self._columns, "data": base64.b64encode(zipped).decode()}

    def _append(self, data: bytes) -> int:
        start = self._length
        padding = -len(data) % _ALIGNED
        self._parts.append(data + bytes(padding))
        self._length += len(data) + padding
        return start


def json_block(name: str, content: Mapping[str, Any]) -> str:
    """Returns a `<script type="application/json">` that no text inside can end, and that no browser runs."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for character in "<>&":  # `</script>` and `<!--` would end or open something
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>\n'
