"""Runs, versioned artifacts, and the lineage between them."""

from typing import TYPE_CHECKING

from conf.errors import SwitchyardError
from tracking.interface import Tracker
from tracking.process import is_alive
from tracking.store import Store

if TYPE_CHECKING:  # only for the hint: what merely looks at results need not load OmegaConf
    from conf.schema import Tracking

__all__ = ["is_alive", "open_tracker"]


def open_tracker(tracking: "Tracking") -> Tracker:
    """The backend that the config names, opened. Raises SwitchyardError if it is not one of this version's."""
    if tracking.backend != "local":
        raise SwitchyardError(
            f"tracking.backend={tracking.backend}: this version keeps runs in the embedded store only; set "
            "tracking.backend=local"
        )
    return Store(tracking.root)
