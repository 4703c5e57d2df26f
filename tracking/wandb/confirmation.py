"""Has W&B show that it holds a version with the aliases that the store has, and notes that in the delivery record."""

from tracking.artifact import StoredArtifact
from tracking.delivery import Ledger
from tracking.interface import TrackingError
from tracking.store import Store
from tracking.wandb.server import Server, ServerArtifact


class Undelivered(TrackingError):
    """Reports that the server does not show what it was sent."""


def confirm_version(store: Store, ledger: Ledger, server: Server, artifact: StoredArtifact) -> ServerArtifact:
    """Gives a version at W&B the aliases that it lacks there, confirms it, and returns it as W&B shows it.

    Raises Undelivered where W&B does not show the version or its aliases, and Unreachable.
    """
    found = server.find_version(artifact)
    if found is None:
        raise Undelivered(f"{artifact.ref}: W&B shows no version with its digest")
    if missing := set(artifact.aliases) - set(found.aliases):
        # Of content that was there already: whether logging it again moves `latest` is the server's affair.
        with server.explained(f"the aliases of {artifact.ref}"):
            found.remote.aliases = [*found.aliases, *missing]
            found.remote.save()
        found = server.find_version(artifact)
        if found is None or not set(artifact.aliases) <= set(found.aliases):
            raise Undelivered(f"{artifact.ref}: W&B does not show its aliases {', '.join(sorted(missing))}")
    ledger.confirm_artifact(artifact, found.version, artifact.aliases)
    if "latest" in found.aliases and "latest" not in artifact.aliases:
        _give_latest_back(store, ledger, server, artifact.name)
    return found


def _give_latest_back(store: Store, ledger: Ledger, server: Server, name: str) -> None:
    """Gives `latest` back to the version that has it here, which the SDK takes from it for whatever is logged."""
    rightful = store.artifact(f"{name}:latest")
    if ledger.version(rightful) is not None and (found := server.find_version(rightful)) is not None:
        with server.explained(f"the aliases of {rightful.ref}"):
            found.remote.aliases = [*found.aliases, "latest"]
            found.remote.save()
