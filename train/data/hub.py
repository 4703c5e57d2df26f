"""Reads datasets from the Hugging Face Hub: the commit behind a revision, and its files, through the Hub's own cache.

The Hub is at HF_ENDPOINT, its cache under HF_HOME; HF_HUB_OFFLINE=1 uses the cache alone. What has been loaded once
loads without a network: first the revision is resolved to a commit (remembered by the cache), then everything is read
from that commit's snapshot folder, also by `datasets`, which never looks beyond it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError, first_line
from conf.schema import Dataset
from metrics.rows import Columns, Wanted, from_arrow, listed
from train.data.files import read_file

# What `datasets` needs of a repository: its card, which says what the configs and splits are, and files of rows.
_ROWS = ["README.md", "*.parquet", "*.csv", "*.tsv", "*.json", "*.jsonl", "*.csv.gz", "*.json.gz", "*.jsonl.gz"]


def revision(dataset: Dataset) -> str:
    """Returns the commit (40 hex digits) that `dataset.hub_revision` names now, or named when there was a network.

    Raises EdgewiseError for an unknown id or revision, and where neither the Hub nor the cache knows.
    """
    if re.fullmatch(r"[0-9a-f]{40}", dataset.hub_revision):
        return dataset.hub_revision
    assert dataset.hub_id is not None
    with _explained(dataset):
        return _commit_of(dataset.hub_id, dataset.hub_revision)


def split_names(dataset: Dataset) -> list[str]:
    """Returns the names that the repository gives its splits; downloads what `read_split` would."""
    if dataset.hub_files is not None:
        return list(dataset.hub_files)
    with _explained(dataset):
        folder = _snapshot(dataset)
        import datasets  # seconds to import: not for a snapshot that can't be had

        return [str(name) for name in datasets.get_dataset_split_names(str(folder), dataset.hub_config)]


def read_split(dataset: Dataset, split: str, wanted: Wanted) -> tuple[list[str], Columns]:
    """Reads one split; returns the names of all columns, and the values of the wanted ones, None where one is missing.

    Raises EdgewiseError where the Hub and its cache don't have it, or it can't be read.
    """
    with _explained(dataset):
        folder = _snapshot(dataset)
        if dataset.hub_files is None:
            return _by_datasets(dataset, folder, split, wanted)
    pattern = dataset.hub_files[split]
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = [name for name in found if fnmatch(name, pattern)]
    if not files:
        raise EdgewiseError(
            f"dataset.hub_files: {dataset.hub_id} at {revision(dataset)[:7]} has no file {pattern} for {split}; "
            f"found {listed(found) or 'none of the files named there'}"
        )
    names, columns = read_file(folder / files[0], dataset, wanted)
    for more in files[1:]:
        more_names, more_columns = read_file(folder / more, dataset, wanted)
        if set(more_names) != set(names):  # in which order is of no account: values are read by name
            raise EdgewiseError(
                f"{dataset.hub_id}: {files[0]} has the columns {listed(names)}, but {more} has {listed(more_names)}"
            )
        for name, values in more_columns.items():
            columns[name] += values
    return names, columns


@lru_cache(maxsize=64)
def _commit_of(hub_id: str, name: str) -> str:
    # Once a process: every cell of a multirun asks, and all of them should have the same rows.
    from huggingface_hub import HfApi  # most of a second to import

    return HfApi().resolve_revision(hub_id, repo_type="dataset", revision=name).resolved


def _snapshot(dataset: Dataset) -> Path:
    """Returns the folder of the commit's files, which are downloaded where they are not there yet."""
    from huggingface_hub import snapshot_download

    patterns = _ROWS if dataset.hub_files is None else list(dataset.hub_files.values())
    commit = revision(dataset)
    assert dataset.hub_id is not None
    return Path(snapshot_download(dataset.hub_id, repo_type="dataset", revision=commit, allow_patterns=patterns))


def _by_datasets(dataset: Dataset, folder: Path, split: str, wanted: Wanted) -> tuple[list[str], Columns]:
    import datasets
    import pyarrow as pa

    datasets.disable_progress_bars()
    rows = datasets.load_dataset(str(folder), dataset.hub_config, split=split)
    kept = {name: rows.data.column(name) for name in rows.column_names if wanted(name) or wanted.inside(name)}
    return from_arrow(f"{dataset.hub_id} {split}", rows.features.arrow_schema, pa.table(kept), wanted)


@contextmanager
def _explained(dataset: Dataset) -> Iterator[None]:
    """Turns what the Hub's and `datasets`' code raise into EdgewiseErrors that say what to do."""
    try:
        yield
    except EdgewiseError:
        raise
    except Exception as error:
        raise EdgewiseError(_explanation(dataset, error)) from error


def _explanation(dataset: Dataset, error: Exception) -> str:
    """Returns the message for an error of the Hub's or of `datasets`' code: what was asked for and what to do."""
    from huggingface_hub import constants, errors

    hub = f"the Hub ({constants.ENDPOINT})"
    instead = "or give dataset.path=DIR, a folder with the dataset's files (docs/datasets.md says which)"
    first = first_line(error)
    if isinstance(error, errors.HFValidationError):
        return f"dataset.hub_id={dataset.hub_id}: not an id of a dataset, such as stanfordnlp/imdb: {first}"
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"dataset.hub_revision={dataset.hub_revision}: {hub} has no such revision of {dataset.hub_id}; "
            "expected a branch, a tag or a whole commit hash"
        )
    if isinstance(error, errors.RepositoryNotFoundError) or _status(error) in (401, 403):
        return (
            f"dataset.hub_id={dataset.hub_id}: {hub} has no such dataset, or shows it to no one who is not logged in. "
            f"Check the id, log in (`hf auth login`), {instead}"
        )
    if _is_network(error, errors):
        why = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else f"{hub} can't be reached"
        return (
            f"dataset={dataset.name}: {why}, and {dataset.hub_id} is not whole in the cache at "
            f"{constants.HF_HUB_CACHE}. Run once where there is a network, {instead} [{_root(error)}]"
        )
    return f"dataset={dataset.name}: {dataset.hub_id} can't be loaded: {type(error).__name__}: {first} [{_root(error)}]"


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_network(error: Exception, errors: Any) -> bool:
    kinds = (
        errors.RevisionResolutionError,
        errors.LocalEntryNotFoundError,
        errors.OfflineModeIsEnabled,
        errors.HfHubHTTPError,
        ConnectionError,
        TimeoutError,
    )
    # The HTTP client's own errors, whichever client this version of the Hub's library uses.
    return isinstance(error, kinds) or type(error).__module__.split(".")[0].startswith(("httpx", "httpcore"))


def _root(error: BaseException) -> str:
    """Returns the type and message of the first cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}"
