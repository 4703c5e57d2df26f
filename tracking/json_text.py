"""Writes values as JSON text and reads them back: strict JSON, in which NaN and infinities are tagged."""

import json
import math
import os
import re
from typing import Any

from tracking.interface import TrackingError


def encode(value: Any, what: str) -> str:
    """Returns the JSON text of a value; NaN and infinities are tagged, numpy scalars and paths become plain values.

    Mapping keys become strings, as in JSON. Raises TrackingError naming `what` for a value that JSON cannot hold.
    """
    try:
        try:
            text = json.dumps(value, allow_nan=False, default=_plain_value)
            return json.dumps(_tagged(value), default=_plain_value) if '$float"' in text else text
        except ValueError:
            return json.dumps(_tagged(value), allow_nan=False, default=_plain_value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TrackingError(
            f"{what} cannot be written as JSON ({error}): expected numbers, strings, lists and mappings"
        ) from error


def decode(text: str) -> Any:
    """Returns the value that `encode` wrote. Raises ValueError for what it cannot have written."""
    try:
        return json.loads(text, object_hook=_untagged) if '$float"' in text else json.loads(text)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _plain_value(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy and JAX scalars and arrays
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


def _tagged(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, dict):
        tagged = {key: _tagged(item) for key, item in value.items()}
        # A mapping that looks like a tag gets one more `$`, which is taken off again.
        return {f"${key}": item for key, item in tagged.items()} if _is_tag(tagged) else tagged
    if isinstance(value, (list, tuple)):
        return [_tagged(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return _tagged(_plain_value(value))


def _untagged(value: dict[str, Any]) -> Any:
    if not _is_tag(value):
        return value
    [(key, item)] = value.items()
    if key == "$float":
        return float(item) if item in ("nan", "inf", "-inf") else value
    return {key[1:]: item}


def _is_tag(value: dict[Any, Any]) -> bool:
    return len(value) == 1 and isinstance(key := next(iter(value)), str) and re.fullmatch(r"\$+float", key) is not None
