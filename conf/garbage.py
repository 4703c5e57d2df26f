"""Makes Python look for garbage in cycles less often than its default, which suits programs with few objects."""

import gc

# New objects between two looks, 700 by default. Importing JAX and tracing a model make several hundred thousand that stay.
OBJECTS_BETWEEN_LOOKS = 25_000


def look_for_cycles_seldom() -> None:
    """Raises the threshold of the youngest generation: a tenth of the time of a small cell, and of the tests, was this."""
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS, *gc.get_threshold()[1:])
