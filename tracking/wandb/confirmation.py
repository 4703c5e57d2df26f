"""Has W&B show that it holds a version with the aliases that the store has, and notes that in the delivery record."""

from collections.abc import Collection

from tracking.artifact import StoredArtifact
from tracking.delivery import Ledger
from tracking.interface import TrackingError
from tracking.store import Store
from tracking.wandb.server import Server
from tracking.wandb.server_artifact import ServerArtifact


class Undelivered(TrackingError):
    """Reports that the server does not show what it was sent."""


def confirm_version(
    ledger: Ledger, server: Server, artifact: StoredArtifact, aliases: Collection[str]
) -> ServerArtifact:
    """Gives a version at W&B those of its aliases that it lacks there, confirms it, and returns it as it is there.

    Raises Undelivered where W&B does not show the version or the aliases, and Unreachable.
    """
    found = server.find_version(artifact)
    if found is None:
        raise Undelivered(f"{artifact.ref}: W&B shows no version with its digest")
    if missing := set(aliases) - set(found.aliases):
        # Of content that was there already: whether logging it again moves `latest` is the server's affair.
        _add_aliases(server, found, missing)
        found = server.find_version(artifact)
        if found is None or not set(aliases) <= set(found.aliases):
            raise Undelivered(f"{artifact.ref}: W&B does not show its aliases {', '.join(sorted(missing))}")
    ledger.confirm_artifact(artifact, found.version, artifact.aliases)
    return found


def confirm_moved_aliases(ledger: Ledger, server: Server, artifact: StoredArtifact) -> None:
    """Gives a version at W&B the aliases that were moved to it here since W&B last showed them.

    One that was confirmed before is W&B's: another machine may have moved it since. Raises as `confirm_version` does.
    """
    if moved := ledger.unconfirmed_aliases(artifact):
        confirm_version(ledger, server, artifact, moved)


def give_latest_back(store: Store, ledger: Ledger, server: Server, logged: ServerArtifact) -> None:
    """Gives `latest` back to the version that has it here, where the SDK took it from it for what was just logged."""
    rightful = store.artifact(f"{logged.name}:latest")
    if rightful.digest == logged.digest or "latest" not in logged.aliases:
        return
    if ledger.version(rightful) is not None and (found := server.find_version(rightful)) is not None:
        _add_aliases(server, found, {"latest"})


def _add_aliases(server: Server, found: ServerArtifact, aliases: set[str]) -> None:
    with server.explained(f"the aliases of {found.ref}"):
        found.remote.aliases = [*found.aliases, *sorted(aliases)]
        found.remote.save()
