"""Finds the checkpoint that `train.init` or `infer.checkpoint` names, what it is and what its content is.

Starts without JAX and reads no weights, so that a finished cell is skipped at once.
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError
from conf.names import MOST_CHARACTERS
from conf.schema import Config, Size, Tracking
from tracking import open_tracker
from tracking.digest import hash_file, manifest_digest
from tracking.files import written_whole
from tracking.interface import Artifact, ArtifactFile, NotFound
from train.pretrained import hf, hub
from train.pretrained.hf_config import check_generation, read_size, reads_bytes
from train.pretrained.tensors import Weights, read_json

SCRATCH = "scratch"
CELL = "edgewise.json"  # in our own model artifacts: the cell that was trained
REMEMBERED = 8 << 20  # bytes: the digest of a file at least this large is kept, and read anew when the file changes

_ARCHITECTURE = (
    "d_model",
    "d_kv",
    "d_ff",
    "layers",
    "heads",
    "vocabulary_size",
    "activation",
    "tied_head",
    "relative_buckets",
    "relative_max_distance",
    "layer_norm_epsilon",
    "decoder_layers",
    "scaled_head",
)
_UNKNOWN_IN_T5X = ("relative_max_distance", "layer_norm_epsilon", "scaled_head")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Holds what is known of a checkpoint before its weights are read.

    `name` is what the config calls it. `content` says what the numbers are, wherever they lie: a manifest digest, or a
    Hub id and its commit. `size` has the architecture, and the name that artifacts take; `unknown` are those of its
    fields that the checkpoint leaves open. `open` opens the weights; `artifact` is the one that holds them, if any.
    `reads_bytes`: its tokens are bytes, as ByT5's are.
    """

    name: str
    content: str
    size: Size
    vocabulary: Path | None
    open: Callable[[], Weights]
    artifact: Artifact | None = None
    unknown: tuple[str, ...] = ()
    reads_bytes: bool = False


def find(reference: str, key: str, tracking: Tracking) -> Checkpoint:
    """Returns the checkpoint that config key `key` names: a folder, a `gs://` address, a Hub id or an artifact's REF.

    A folder that exists wins over a Hub id of the same spelling. Raises EdgewiseError where it is none of them.
    """
    if reference.startswith("gs://"):
        return _remote(reference)
    try:
        folder = Path(reference).expanduser()
        is_folder = folder.is_dir()
    except (OSError, RuntimeError):  # a name that is too long, or the home of somebody who isn't known here
        is_folder = False
    if is_folder:
        return _folder(reference, folder, Path(tracking.root) / "digests")
    if match := hub.HUB_ID.fullmatch(reference):
        return _on_the_hub(reference, match["id"], match["revision"])
    try:
        return from_artifact(open_tracker(tracking).artifact(reference))
    except NotFound:
        raise EdgewiseError(
            f"{key}={reference} is neither a folder nor an artifact here: expected a Hub id such as "
            "google-t5/t5-small, a folder with config.json and model.safetensors, a T5X checkpoint's folder or gs:// "
            "address, or a REF such as model-imdb-small-s0:latest"
        ) from None


def resolved(config: Config) -> Config:
    """Returns the config with its checkpoint's architecture (`size=auto`) and, without `tokenizer.path`, vocabulary.

    Raises EdgewiseError where a named size contradicts the checkpoint, and where there is no vocabulary.
    """
    key = "train.init" if config.infer.checkpoint is None else "infer.checkpoint"
    reference = config.train.init if config.infer.checkpoint is None else config.infer.checkpoint
    if reference == SCRATCH:
        if is_open(config.size):
            raise EdgewiseError(
                "size=auto takes the architecture from a checkpoint: give train.init or infer.checkpoint, or name a "
                "size, such as size=small"
            )
        return config
    checkpoint = find(reference, key, config.tracking)
    if checkpoint.reads_bytes:
        raise EdgewiseError(
            f"{key}={reference} is a ByT5, whose tokens are bytes: texts are cut into the pieces of a SentencePiece "
            "vocabulary here, on which it was not trained. Take a T5 or mT5 of its size"
        )
    tokenizer = config.tokenizer
    if tokenizer.path is None:
        if checkpoint.vocabulary is None:
            raise EdgewiseError(
                f"{key}={reference} has no {hf.VOCABULARY}: give the vocabulary that it was trained with, "
                "tokenizer.path=FILE (T5's own is in every google-t5 model on the Hub)"
            )
        tokenizer = dataclasses.replace(tokenizer, source="file", path=str(checkpoint.vocabulary))
    return dataclasses.replace(config, size=agreed_size(config.size, checkpoint, key), tokenizer=tokenizer)


def is_open(size: Size) -> bool:
    """Tells whether this is `size=auto`: the checkpoint says what the architecture is."""
    return size.d_model == 0


def agreed_size(size: Size, checkpoint: Checkpoint, key: str) -> Size:
    """Returns `size`, filled in from the checkpoint where it is open.

    Dropout belongs to the training, not to the architecture: it stays the config's. Raises EdgewiseError where the two
    disagree.
    """
    theirs = checkpoint.size
    fields = [field for field in _ARCHITECTURE if field not in checkpoint.unknown]
    ours, known = _architecture(size), _architecture(theirs)
    compared = fields
    if is_open(size):  # what `size=auto` leaves at its default is no contradiction
        compared = [f for f in ("d_model", "d_kv", "d_ff", "layers", "heads") if getattr(size, f) != 0]
        compared += [f for f in ("decoder_layers", "scaled_head") if f in fields and getattr(size, f) is not None]
    differ = [field for field in compared if ours[field] is not None and ours[field] != known[field]]
    if differ:

        def described(values: dict[str, Any]) -> str:
            return ", ".join(f"{field}={values[field]}" for field in differ)

        raise EdgewiseError(
            f"size={size.name} has {described(ours)}, but {key}={checkpoint.name} has {described(known)}: take "
            "size=auto, which is whatever the checkpoint is, or another checkpoint"
        )
    name = theirs.name if size.name == "auto" else size.name
    return dataclasses.replace(size, name=name, **{field: getattr(theirs, field) for field in fields})


def _architecture(size: Size) -> dict[str, Any]:
    """Returns the fields of _ARCHITECTURE, with what null stands for in their place."""
    values = {field: getattr(size, field) for field in _ARCHITECTURE}
    return values | {"decoder_layers": size.decoder_depth, "scaled_head": size.scales_head}


def initial_content(config: Config) -> str:
    """Returns what stands for `train.init` in a cell's identity: the checkpoint's content, not where it lies."""
    if config.train.init == SCRATCH:
        return SCRATCH
    return find(config.train.init, "train.init", config.tracking).content


# --- the four kinds --------------------------------------------------------------------------------------------------


def from_artifact(artifact: Artifact) -> Checkpoint:
    """Returns the checkpoint of a model artifact. Raises EdgewiseError where it is another kind of artifact."""
    wanted = (hf.WEIGHTS, hf.CONFIG, hf.VOCABULARY, CELL)
    if missing := [name for name in wanted if name not in artifact.files]:
        raise EdgewiseError(f"{artifact.ref} holds no {', '.join(missing)}: expected a model artifact")
    name = read_json(artifact.file(CELL), "a cell's record")["size"]["name"]
    return Checkpoint(
        name=artifact.ref,
        content=artifact.digest,
        size=read_size(artifact.file(hf.CONFIG), name, lambda: hf.has_own_head([artifact.file(hf.WEIGHTS)])),
        vocabulary=artifact.file(hf.VOCABULARY),
        open=lambda: hf.SafetensorsWeights(artifact.ref, [artifact.file(hf.WEIGHTS)]),
        artifact=artifact,
    )


def _folder(reference: str, folder: Path, memory: Path) -> Checkpoint:
    """Returns the checkpoint in a local folder. Digests of its large files are kept in the folder `memory`."""
    vocabulary = folder / hf.VOCABULARY if (folder / hf.VOCABULARY).is_file() else None
    if (folder / hf.CONFIG).is_file():
        weights = hf.weight_files(folder)
        if (folder / hf.GENERATION).is_file():
            check_generation(folder / hf.GENERATION)
        size = read_size(folder / hf.CONFIG, _legal(folder.absolute().name), lambda: hf.has_own_head(weights))
        index = [] if weights == [folder / hf.WEIGHTS] else [folder / hf.INDEX]
        files = [folder / hf.CONFIG, *index, *weights, *([vocabulary] if vocabulary else [])]
        content = _digest(folder, files, memory)
        return Checkpoint(
            reference,
            content,
            size,
            vocabulary,
            lambda: hf.SafetensorsWeights(reference, weights),
            reads_bytes=reads_bytes(folder / hf.CONFIG),
        )
    from train.pretrained import t5x  # tensorstore takes a third of a second to start

    if (folder / t5x.FILE).is_file():
        opened = t5x.T5XWeights(reference)
        arrays = [file for name in opened.folders for file in (folder / name).rglob("*") if file.is_file()]
        content = _digest(folder, [folder / t5x.FILE, *arrays, *([vocabulary] if vocabulary else [])], memory)
        size = opened.size(_t5x_name(str(folder.absolute())))
        return Checkpoint(reference, content, size, vocabulary, lambda: opened, unknown=_UNKNOWN_IN_T5X)
    present = sorted(path.name for path in folder.iterdir())
    raise EdgewiseError(
        f"{reference} is no checkpoint: it holds {', '.join(present[:8]) or 'nothing'}; expected config.json with "
        "model.safetensors (Hugging Face), or a file named checkpoint (T5X)"
    )


@functools.lru_cache(maxsize=8)
def _remote(reference: str) -> Checkpoint:
    """Returns a T5X checkpoint in a bucket.

    Its content is its address and the digest of its msgpack file, which holds every array's description and the small
    ones themselves: the arrays are not read to tell that a cell is finished.
    """
    from train.pretrained import t5x

    opened = t5x.T5XWeights(reference)
    content = f"{opened.where}#{hashlib.sha256(opened.message).hexdigest()[:32]}"
    return Checkpoint(
        reference, content, opened.size(_t5x_name(reference)), None, lambda: opened, unknown=_UNKNOWN_IN_T5X
    )


def _on_the_hub(reference: str, id: str, revision: str | None) -> Checkpoint:
    """Returns the checkpoint of a Hub id; its weights are downloaded when they are opened."""
    repository = hub.resolve(id, revision)
    if repository.files is not None and hf.WEIGHTS not in repository.files and hf.INDEX not in repository.files:
        raise hf.no_safetensors(f"{reference} on the Hub", [name for name in hf.PICKLES if name in repository.files])
    config = repository.file(hf.CONFIG)
    size = read_size(config, _legal(id.split("/")[1]), lambda: hf.has_own_head(repository.weight_files()))
    if (generation := repository.optional_file(hf.GENERATION)) is not None:
        check_generation(generation)
    vocabulary, content = repository.optional_file(hf.VOCABULARY), f"{id}@{repository.commit}"
    return Checkpoint(reference, content, size, vocabulary, repository.weights, reads_bytes=reads_bytes(config))


def _legal(name: str) -> str:
    """Returns a name as artifacts may have it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:MOST_CHARACTERS].strip("-.") or "checkpoint"


def _t5x_name(where: str) -> str:
    """Returns `t5_small` of `…/t5_small/checkpoint_1000000`."""
    *rest, last = where.rstrip("/").split("/")
    return _legal(rest[-1] if rest and rest[-1] and re.fullmatch(r"checkpoint_\d+", last) else last)


# --- content ---------------------------------------------------------------------------------------------------------


def _digest(folder: Path, files: Iterable[Path], memory: Path) -> str:
    """Returns the manifest digest of these files of a folder, by their paths in it."""
    return manifest_digest({file.relative_to(folder).as_posix(): _hashed(file, memory) for file in files})


def _hashed(file: Path, memory: Path) -> ArtifactFile:
    """Returns size and MD5 of a file.

    A large one is read once: its digest is kept beside its size, times of change and inode, by which it is told that
    the file is the same, as git tells it.
    """
    try:
        before = file.stat()
        if before.st_size < REMEMBERED:
            return hash_file(file)
        stamp = [before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino]
        kept = memory / f"{hashlib.sha256(str(file.absolute()).encode()).hexdigest()[:24]}.json"
        try:
            note = json.loads(kept.read_text())
            if note["stamp"] == stamp:
                return ArtifactFile(before.st_size, note["md5"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # never seen, or damaged: read the file
        hashed = hash_file(file)
    except OSError as error:
        raise EdgewiseError(f"{file}: {error.strerror}; expected a file that can be read") from None
    with written_whole(kept) as partial:
        partial.write_text(json.dumps({"stamp": stamp, "md5": hashed.md5}))
    return hashed
