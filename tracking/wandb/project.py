"""Names a W&B project by the config, else by W&B's own environment. Starts without the SDK."""

import os
from dataclasses import dataclass

from conf.secrets import without_credentials

DEFAULT_NAME = "edgewise"  # where neither the config nor WANDB_PROJECT names one


@dataclass(frozen=True)
class WandbProject:
    """Names a project at W&B: without an entity the API key's own, without a base URL at the SDK's own server."""

    entity: str | None = None
    name: str = DEFAULT_NAME
    base_url: str | None = None

    @classmethod
    def chosen(cls, entity: str | None = None, name: str | None = None, base_url: str | None = None) -> "WandbProject":
        """Returns the project of these names, completed from WANDB_ENTITY, WANDB_PROJECT and WANDB_BASE_URL."""
        return cls(
            entity or os.environ.get("WANDB_ENTITY") or None,
            name or os.environ.get("WANDB_PROJECT") or DEFAULT_NAME,
            (base_url or os.environ.get("WANDB_BASE_URL") or "").rstrip("/") or None,
        )

    @property
    def key(self) -> str:
        """Returns the text under which the delivery record knows the project."""
        return f"{self.base_url or 'default'} {self.entity or 'default'}/{self.name}"

    @property
    def flags(self) -> list[str]:
        """Returns the flags of a command that name this project."""
        values = (("entity", self.entity), ("project", self.name), ("base-url", self.base_url))
        return [part for flag, value in values if value for part in (f"--{flag}", value)]

    def __str__(self) -> str:
        address = f" at {without_credentials(self.base_url)}" if self.base_url else ""
        return f"{self.entity or '(default entity)'}/{self.name}{address}"
