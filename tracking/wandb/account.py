"""Remembers which entity W&B named for an API key, so that the delivery record knows the project also without W&B."""

import hashlib
from dataclasses import replace

from tracking.delivery import Accounts
from tracking.store import Store
from tracking.wandb.causes import api_key
from tracking.wandb.project import WandbProject


def resolved(project: WandbProject, store: Store) -> WandbProject:
    """Returns the project with its entity, where it names none: the one that W&B last named for the API key.

    Returns it as it is where W&B never named one.
    """
    if project.entity is not None:
        return project
    return replace(project, entity=Accounts(store).entity(_account(project)))


def remember(project: WandbProject, store: Store, entity: str) -> WandbProject:
    """Returns the project with the entity that W&B named just now, and remembers it."""
    if project.entity is not None:
        return project
    Accounts(store).remember(_account(project), entity)
    return replace(project, entity=entity)


def _account(project: WandbProject) -> str:
    """Returns a text by which an API key at a server is recognised, and from which it cannot be found."""
    key = api_key(project.base_url or "https://api.wandb.ai") or ""
    return hashlib.sha256(f"{project.base_url or 'default'} {key}".encode()).hexdigest()[:16]
