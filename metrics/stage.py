"""Runs the metrics stage: from scores artifacts or plain files to a directory, and to a `metrics-D` artifact."""

import base64
import glob
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from conf.errors import EdgewiseError
from conf.names import joined_name
from conf.schema import Config
from metrics.grid.collect import GridError
from metrics.misfits import advice_on_misfits
from metrics.output.directory import Input, Progress, fill_directory, silent, write_metrics
from metrics.output.previews import log_output
from metrics.output.replace import check_replaceable, refusals_as_output_errors, replaced
from metrics.output.summary import NUMBERS
from metrics.text_baseline import common_baseline
from tracking.interface import Artifact, ArtifactDraft, Tracker

# Part of a run's identity: raise it when the same scores give other numbers or files than before.
OUTPUT_VERSION = 10
SCORES_FILE = "scores.parquet"


def metrics_from_files(config: Config, progress: Progress = silent) -> Path:
    """Makes the tables of the Parquet files that `metrics.scores` matches, in `metrics.out`; touches no store.

    Raises EdgewiseError if nothing matches, if `metrics.out` isn't given or holds one of the files, and as
    `read_scores` and `write_metrics` do.
    """
    pattern = config.metrics.scores or ""
    paths = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if not path.is_dir())
    if not paths:
        folder = f", such as 'metrics.scores={pattern.rstrip('/')}/*.parquet'" if Path(pattern).is_dir() else ""
        raise EdgewiseError(
            f"metrics.scores={pattern}: no file matches; expected a glob of scores files (Parquet){folder}"
        )
    if config.metrics.out is None:
        raise EdgewiseError("metrics.scores is given but metrics.out is not; say where to write: metrics.out=DIR")
    out = Path(config.metrics.out)
    check_replaceable(out)
    inside = [path for path in paths if out.resolve() in path.resolve().parents]
    if inside:
        raise EdgewiseError(f"metrics.out={out} would replace the scores file {inside[0]} in it; write elsewhere")
    progress(f"reading {len(paths)} scores files")
    # Names only as long as it takes to tell files apart: where they lay is not part of a result.
    root = paths[0].parent
    while not all(path.is_relative_to(root) for path in paths):
        root = root.parent
    inputs = [Input(path.relative_to(root).as_posix(), f"sha256:{_sha256(path)}") for path in paths]
    write_metrics(paths, inputs, config.metrics, out, progress, config.shows_text)
    return out


def compute_metrics(config: Config, tracker: Tracker, progress: Progress = silent) -> Path:
    """Makes the tables of a dataset's latest scores artifacts, logs them as `metrics-D`, and returns `metrics.out`.

    Raises EdgewiseError if the dataset has no scores artifacts, GridError with the command that mends it if the latest
    ones do not fit together, and as `metrics_of_scores` does.
    """
    dataset, split = config.dataset.name, config.metrics.split
    used = scores_artifacts(tracker, dataset, split)
    if not used:
        raise EdgewiseError(
            f"no scores artifact of dataset {dataset} and split {split} (its metadata says both) to make tables of; "
            f"score a cell first: python -m infer dataset={dataset} size=SIZE seed=SEED infer.split={split}"
        )
    try:
        return metrics_of_scores(config, tracker, used, progress)
    except GridError as error:
        if advice := advice_on_misfits(used, tracker, config.tracking):
            raise GridError(f"{error}\n{advice}") from error
        raise


def metrics_of_scores(
    config: Config, tracker: Tracker, scores: Sequence[Artifact], progress: Progress = silent
) -> Path:
    """Makes the tables of these scores artifacts, logs them as `metrics-D`, and returns `metrics.out`.

    `scores` are of one split of the config's dataset. The run's id follows from their digests and the config that can
    change a number. A run that finished is not done again unless `force`: files missing from `metrics.out` are
    restored from its artifact, which becomes the latest again. Raises as `read_scores` and `write_metrics` do.
    """
    dataset, split = config.dataset.name, scores[0].metadata["split"]
    out = Path(config.metrics.out or f"out/{dataset}")
    check_replaceable(out)
    name = joined_name("metrics", dataset)
    used = sorted(scores, key=lambda artifact: artifact.name)
    numbers = {key: value for key, value in asdict(config.metrics).items() if key in NUMBERS}
    identity = {
        "version": OUTPUT_VERSION,
        "dataset": dataset,
        "inputs": sorted([artifact.name, artifact.digest] for artifact in used),
        "metrics": numbers,
    } | ({} if config.shows_text else {"text": False})  # a page with texts never stands in for one without
    baseline = common_baseline([artifact.metadata for artifact in used])
    if baseline is not None:
        identity["baseline"] = baseline.as_metadata()
    run_id = f"{name}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]}"
    done = _finished(tracker, run_id, name)
    if done is not None and not config.force:
        progress(f"{run_id} is done already: {done.ref} (force=true makes it again)")
        tracker.make_latest(done)
        _restore(done, out, progress)
        return out
    settings = {"dataset": {"name": dataset}, "metrics": numbers}
    # What is logged is read from the private directory: once it is at `out`, another run may replace it.
    with (
        replaced(out) as directory,
        tracker.start_run(
            run_id,
            job_type="metrics",
            name=f"metrics {dataset} {split}",
            group=config.tracking.group,
            tags=[dataset],
            config=settings,
            restart=True,
        ) as run,
    ):
        progress(f"reading {len(used)} scores artifacts of {dataset}")
        artifacts = [run.use_artifact(artifact) for artifact in used]
        paths = [artifact.file(SCORES_FILE) for artifact in artifacts]
        inputs = [Input(artifact.name, artifact.digest) for artifact in artifacts]
        baselines = {} if baseline is None else {dataset: baseline}
        summary = fill_directory(directory, paths, inputs, config.metrics, out, progress, config.shows_text, baselines)
        consumed = {artifact.name: artifact.digest for artifact in artifacts}
        metadata = {"dataset": dataset, "split": split, "signature": summary["signature"], "inputs": consumed}
        draft = ArtifactDraft(name, "metrics", metadata)
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            draft.add_file(path, path.relative_to(directory).as_posix())
        artifact = run.log_artifact(draft)
        log_output(run, directory)
        run.set_summary({"artifact": artifact.ref, "digest": artifact.digest})
        progress(f"logged {artifact.ref}")
    return out


def scores_artifacts(tracker: Tracker, dataset: str, split: str) -> list[Artifact]:
    """Returns the latest version of each scores artifact whose metadata names this dataset and split, by name.

    Where two artifacts are the scores of one cell by their metadata, the one under the cell's present name is taken:
    until 0.2.0 the hyphens within a dataset's, size's or split's name were not doubled.
    """
    found = []
    for artifact in tracker.artifacts("scores-*", type="scores"):
        in_metadata = artifact.metadata.get("dataset"), artifact.metadata.get("split")
        if "latest" in artifact.aliases and in_metadata == (dataset, split):
            found.append(artifact)
    named_now = {_cell(artifact) for artifact in found if artifact.name == _present_name(artifact)}
    return sorted(
        (
            artifact
            for artifact in found
            if artifact.name == _present_name(artifact) or _cell(artifact) not in named_now
        ),
        key=lambda artifact: artifact.name,
    )


def _cell(artifact: Artifact) -> tuple[str, ...]:
    """Returns the dataset, size, seed and split that a scores artifact's metadata names, as parts of a name."""
    parts = artifact.metadata
    return str(parts["dataset"]), str(parts.get("size")), f"s{parts.get('seed')}", str(parts["split"])


def _present_name(artifact: Artifact) -> str:
    """Returns the name that a scores artifact with this metadata is logged by."""
    return joined_name("scores", *_cell(artifact))


def _finished(tracker: Tracker, run_id: str, name: str) -> Artifact | None:
    """Returns the metrics artifact, by its name, that the run logged, or None if the run didn't finish."""
    record = tracker.run(run_id)
    if record is None or record.state != "finished":
        return None
    logged = [artifact for artifact in tracker.outputs(run_id) if artifact.name == name]
    return logged[-1] if logged else None


def _restore(artifact: Artifact, out: Path, progress: Progress) -> None:
    """Makes `out` hold the artifact's files; writes nothing if it does."""
    if all((out / name).is_file() and _md5(out / name) == file.md5 for name, file in artifact.files.items()):
        return
    with replaced(out) as directory, refusals_as_output_errors(out):
        artifact.download(directory)
    progress(f"restored {out} from {artifact.ref}")


def _md5(path: Path) -> str:
    """Returns the MD5 of a file in base64, as an artifact's manifest has it."""
    return base64.b64encode(hashlib.md5(path.read_bytes(), usedforsecurity=False).digest()).decode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
