"""Finds checkpoints on the Hugging Face Hub: the commit of a name and a revision, and single files of it.

HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and tokens work as in every tool over `huggingface_hub`. Starts without it and
without JAX: a cell that doesn't name the Hub need not wait for either.
"""

import contextlib
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from conf.errors import EdgewiseError, first_line
from train.pretrained import hf

HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubCheckpoint:
    """Holds one commit of a repository. `files` lists what it has; None where only the local cache could be asked."""

    id: str
    commit: str
    files: frozenset[str] | None

    def file(self, name: str) -> Path:
        """Returns the local path of a file, downloaded where it is not yet.

        Raises EdgewiseError where that can't be done.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(self.id, name, revision=self.commit))
        except LocalEntryNotFoundError as error:
            raise _unreachable(f"{name} of {self.id}", error) from None
        except EntryNotFoundError:
            raise EdgewiseError(f"{self.id}@{self.commit[:12]} on the Hub has no file {name}") from None
        except Exception as error:  # httpx's, OSError's and the Hub's own kinds
            raise _unreachable(f"{name} of {self.id}", error) from None

    def optional_file(self, name: str) -> Path | None:
        """Does the same; returns None where the commit, or the cache that stands in for it, has no such file."""
        if self.files is not None:
            return self.file(name) if name in self.files else None
        return _cached(self.id, name, self.commit)

    def weights(self) -> hf.SafetensorsWeights:
        """Returns a reader of the tensors, whose files are downloaded, and nothing else with them."""
        return hf.SafetensorsWeights(self._where, self.weight_files())

    def weight_files(self) -> list[Path]:
        """Returns the local paths of the tensors' files, downloaded where they are not yet.

        Raises EdgewiseError where the commit has none, or they can't be fetched.
        """
        single = self.optional_file(hf.WEIGHTS)
        if single is not None:
            return [single]
        index = self.optional_file(hf.INDEX)
        if index is None:
            if self.files is None:
                raise _unreachable(f"the weights of {self.id}", OSError("they are not in the local cache"))
            raise hf.no_safetensors(self._where, [name for name in hf.PICKLES if name in self.files])
        return [self.file(name) for name in hf.index_shards(index)]

    @property
    def _where(self) -> str:
        return f"{self.id}@{self.commit[:12]}"


@functools.lru_cache(maxsize=64)  # the cells of a sweep ask once, and train from one commit
def resolve(id: str, revision: str | None) -> HubCheckpoint:
    """Returns the commit that a revision (a branch, a tag, a commit) is now; where there is no network, by the cache.

    Raises EdgewiseError for a repository or revision that isn't there, and where neither knows it.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().model_info(id, revision=revision, timeout=10)
    except (RepositoryNotFoundError, HFValidationError):
        raise EdgewiseError(
            f"{id} is no folder here and no model on the Hub that can be read: expected an id such as "
            "google-t5/t5-small, or an existing folder. A private model needs `hf auth login` or HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise EdgewiseError(f"{id} on the Hub has no revision {revision}: expected a branch, tag or commit") from None
    except Exception as error:  # httpx's, OSError's and the Hub's own kinds, offline mode's among them
        config = _cached(id, hf.CONFIG, revision)
        if config is None:
            raise _unreachable(id, error) from None
        return HubCheckpoint(id, config.parent.name, None)  # the cache keeps a commit's files under its name
    assert info.sha is not None
    files = frozenset(file.rfilename for file in info.siblings or ())
    if hf.CONFIG in files and revision != info.sha:
        with contextlib.suppress(Exception):  # asked by the branch's name, so that the cache knows its commit offline
            hf_hub_download(id, hf.CONFIG, revision=revision)
    return HubCheckpoint(id, info.sha, files)


def _cached(id: str, name: str, revision: str | None) -> Path | None:
    """Returns a file of the local cache; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(id, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _unreachable(what: str, error: Exception) -> EdgewiseError:
    """Returns the error that says why something is not to be had, and what to do without a network."""
    cause = first_line(error, most=200)
    return EdgewiseError(
        f"{what} can't be fetched from the Hub and is not in the local cache ({cause}). Without a network, copy the "
        "model's folder (config.json, model.safetensors, spiece.model) and give its path: train.init=PATH or "
        "infer.checkpoint=PATH; HF_ENDPOINT names a mirror"
    )
