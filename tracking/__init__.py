"""Keeps runs, versioned artifacts, and the lineage between them."""

from typing import TYPE_CHECKING

from tracking.interface import Tracker
from tracking.process import is_alive
from tracking.store import Store

if TYPE_CHECKING:  # only for the hint: what merely looks at results need not load OmegaConf
    from conf.schema import Tracking

__all__ = ["is_alive", "open_tracker"]


def open_tracker(tracking: "Tracking") -> Tracker:
    """Opens the backend that the config names. Raises TrackingError where there can be no store."""
    if tracking.backend == "wandb":
        from tracking.wandb.project import WandbProject
        from tracking.wandb.tracker import WandbTracker

        project = WandbProject.chosen(tracking.entity, tracking.project, tracking.base_url)
        return WandbTracker(tracking.root, project)
    return Store(tracking.root)
