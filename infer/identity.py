"""Which scores these are: the model, the rows and the way of scoring. Starts without JAX."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conf.errors import SwitchyardError
from conf.schema import Config
from tracking.digest import hash_file, manifest_digest
from tracking.interface import Artifact, NotFound, Tracker
from train.identity import cell_name, dataset_identity, identity_hash, trained_model

SCORING_VERSION = 1  # counts changes of the code that change what a model scores


@dataclass(frozen=True)
class ModelSource:
    """Where the weights to be scored are: an artifact, or a folder from outside. `digest` is their content."""

    digest: str
    artifact: Artifact | None = None
    folder: Path | None = None
    note: str | None = None


def find_model(config: Config, tracker: Tracker) -> ModelSource:
    """`infer.checkpoint` where it is given, else the model that this config trains, else the cell's latest model.

    Raises SwitchyardError when there is none, saying what to run.
    """
    given = config.infer.checkpoint
    if given is not None:
        return _outside_model(given, tracker)
    own = trained_model(config, tracker)
    if own is not None:
        return ModelSource(own.digest, own)
    name = f"model-{cell_name(config)}"
    try:
        latest = tracker.artifact(f"{name}:latest")
    except NotFound:
        overrides = f"dataset={config.dataset.name} size={config.size.name} seed={config.seed}"
        raise SwitchyardError(f"there is no artifact {name}: run `python -m train {overrides}` first") from None
    note = f"{latest.ref} was trained with other settings than this command's; its own are kept with the scores"
    return ModelSource(latest.digest, latest, note=note)


def _outside_model(given: str, tracker: Tracker) -> ModelSource:
    folder = Path(given).expanduser()
    if folder.is_dir():
        files = [folder / name for name in ("config.json", "model.safetensors", "spiece.model")]
        absent = [file.name for file in files[:2] if not file.is_file()]
        if absent:
            raise SwitchyardError(f"infer.checkpoint={given} holds no {' and no '.join(absent)}: expected both")
        return ModelSource(manifest_digest({f.name: hash_file(f) for f in files if f.is_file()}), folder=folder)
    try:
        artifact = tracker.artifact(given)
    except NotFound:
        raise SwitchyardError(
            f"infer.checkpoint={given} is neither a folder nor an artifact here: expected a folder with "
            "model.safetensors, config.json and spiece.model, or a REF such as model-imdb-small-s0:latest"
        ) from None
    return ModelSource(artifact.digest, artifact)


def scoring_identity(config: Config, model_digest: str) -> dict[str, Any]:
    """Everything that decides the scores' numbers, as JSON values."""
    return {
        "version": SCORING_VERSION,
        "model": model_digest,
        "dataset": dataset_identity(config),
        "split": config.infer.split,
        "dtype": config.train.dtype,
    }


def infer_run_id(config: Config, model_digest: str) -> str:
    """The id of the run that scores this split by this model."""
    return f"infer-{cell_name(config)}-{config.infer.split}-{identity_hash(scoring_identity(config, model_digest))}"


def finished_scores(config: Config, tracker: Tracker, model_digest: str) -> Artifact | None:
    """The scores artifact of this model on this split, where its run has finished."""
    run_id = infer_run_id(config, model_digest)
    record = tracker.run(run_id)
    if record is None or record.state != "finished":
        return None
    return next((a for a in tracker.outputs(run_id) if a.type == "scores"), None)
