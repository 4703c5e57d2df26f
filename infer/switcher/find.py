"""Finds a switcher to run: an artifact of the store by its reference, or a folder that `infer.switcher.bundle` made."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError, first_line
from conf.schema import Tracking
from infer.switcher.policy import Policy, read_policy
from infer.switcher.stage import POLICY
from tracking import open_tracker
from tracking.digest import hash_file, manifest_digest
from tracking.interface import Artifact, ArtifactFile, NotFound, Tracker, TrackingError

MODELS = "models"  # of a bundle: a folder for each stage


@dataclass(frozen=True)
class FoundSwitcher:
    """Holds a switcher and the models of its stages, in order; `artifact` is None for a bundle."""

    ref: str
    digest: str
    policy: Policy
    models: list[Artifact]
    artifact: Artifact | None


@dataclass
class FolderArtifact(Artifact):
    """Represents the files of a folder as an artifact; its digest is that of the files as they are there now."""

    folder: Path
    type: str
    name: str = ""
    version: int = 0
    aliases: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    files: dict[str, ArtifactFile] = field(default_factory=dict)
    digest: str = ""

    def __post_init__(self) -> None:
        self.name = str(self.folder)
        try:
            self.files = {path.name: hash_file(path) for path in sorted(self.folder.iterdir()) if path.is_file()}
        except OSError as error:
            raise EdgewiseError(f"{self.folder}: {error.strerror}; expected a folder of a bundle") from None
        self.digest = manifest_digest(self.files)

    @property
    def ref(self) -> str:
        """Returns the folder, which is how it is named."""
        return self.name

    def file(self, name: str) -> Path:
        """Returns the path of one file. Raises NotFound where the folder has none of that name."""
        if name not in self.files:
            raise NotFound(f"{self.folder} holds no {name}")
        return self.folder / name

    def download(self, directory: Path | str) -> Path:
        """Raises TrackingError: the files are in a folder already."""
        raise TrackingError(f"{self.folder} is a folder already; copy it")


def find_switcher(ref: str | None, tracking: Tracking) -> FoundSwitcher:
    """Returns the switcher that `switcher.ref` names.

    Raises EdgewiseError where there is none, where it is another kind of artifact, and where one of its models is gone
    or was altered.
    """
    if ref is None:
        raise EdgewiseError(
            "switcher.ref is not set: give switcher.ref=REF, such as switcher-demo-nano-micro:latest (python -m "
            "tracking ls lists them), or the folder of a bundle"
        )
    try:
        folder = Path(ref).expanduser()
        is_folder, is_bundle = folder.is_dir(), (folder / POLICY).is_file()
    except (OSError, RuntimeError):  # a name that is too long, or the home of somebody who isn't known here
        is_folder = is_bundle = False
    if is_bundle:
        return _bundled(folder)
    try:
        return _stored(ref, open_tracker(tracking))
    except NotFound:
        if not is_folder:
            raise
        raise EdgewiseError(
            f"switcher.ref={ref} is a folder that holds no {POLICY}: expected one that infer.switcher.bundle made, "
            "whole, or a REF (python -m tracking ls lists them)"
        ) from None


def _stored(ref: str, tracker: Tracker) -> FoundSwitcher:
    """Returns a switcher of the store, with its models from the store."""
    artifact = tracker.artifact(ref)
    if artifact.type != "switcher" or POLICY not in artifact.files:
        raise EdgewiseError(f"switcher.ref={ref}: {artifact.ref} is a {artifact.type} artifact, expected a switcher's")
    policy = _policy_in(artifact.file(POLICY), artifact.ref)
    models = []
    for stage in policy.stages:
        try:
            models.append(tracker.artifact(stage.model))
        except NotFound:
            raise EdgewiseError(
                f"{artifact.ref} answers by {stage.name}, the model {stage.model}, which is not in the store: train "
                "it again, or pull it (python -m tracking pull)"
            ) from None
    return FoundSwitcher(artifact.ref, artifact.digest, policy, models, artifact)


def _bundled(folder: Path) -> FoundSwitcher:
    """Returns the switcher in a folder, with the models beside it, each compared with its digest."""
    own = FolderArtifact(folder, "switcher")
    policy = _policy_in(folder / POLICY, str(folder / POLICY))
    models: list[Artifact] = []
    for stage in policy.stages:
        model = FolderArtifact(folder / MODELS / stage.name, "model")
        if model.digest != stage.model:
            raise EdgewiseError(
                f"{model.folder}: its files aren't the model {stage.model} that the switcher was made of (they have "
                f"the digest {model.digest}); copy the bundle again"
            )
        models.append(model)
    return FoundSwitcher(str(folder), own.digest, policy, models, None)


def _policy_in(file: Path, where: str) -> Policy:
    """Reads a `policy.json`; raises EdgewiseError, starting with `where`, as `read_policy` does."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EdgewiseError(f"{where}: not UTF-8 ({first_line(error)}); expected a switcher's policy.json") from None
    except OSError as error:
        raise EdgewiseError(f"{where}: {error.strerror}; expected a switcher's policy.json") from None
    return read_policy(text, where)
