"""Which W&B project: from the config, else from W&B's own environment. Starts without the SDK."""

import os
from dataclasses import dataclass

PROJECT = "edgewise"  # where neither the config nor WANDB_PROJECT names one


@dataclass(frozen=True)
class Place:
    """A project at W&B. Without an entity it is the API key's own, without a base URL the one the SDK is set to."""

    entity: str | None = None
    project: str = PROJECT
    base_url: str | None = None

    @classmethod
    def of(cls, entity: str | None = None, project: str | None = None, base_url: str | None = None) -> "Place":
        """The place that these name; what is not given is taken from WANDB_ENTITY, WANDB_PROJECT, WANDB_BASE_URL."""
        return cls(
            entity or os.environ.get("WANDB_ENTITY") or None,
            project or os.environ.get("WANDB_PROJECT") or PROJECT,
            (base_url or os.environ.get("WANDB_BASE_URL") or "").rstrip("/") or None,
        )

    @property
    def key(self) -> str:
        """What the delivery record knows the place by."""
        return f"{self.base_url or 'default'} {self.entity or 'default'}/{self.project}"

    @property
    def flags(self) -> list[str]:
        """The flags of a command that name this place."""
        given = (("entity", self.entity), ("project", self.project), ("base-url", self.base_url))
        return [part for name, value in given if value for part in (f"--{name}", value)]

    def __str__(self) -> str:
        return f"{self.entity or '(default entity)'}/{self.project}" + (f" at {self.base_url}" if self.base_url else "")
