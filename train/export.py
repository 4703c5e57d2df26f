"""Writes a model as a checkpoint that other T5 code reads: `python -m train.export REF DIR [format=hf|t5x]`.

REF is a model artifact, or whatever else `train.init` takes, so that this also converts one layout into the other.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from conf.errors import EdgewiseError
from conf.pipes import run_command
from conf.schema import LABELS, Tracking
from train.identity import softmax_of
from train.new_folder import check_free, new_folder
from train.pretrained import find, hf

FORMATS = ("hf", "t5x")


def export(ref: str, directory: Path, layout: str, tracking: Tracking) -> Path:
    """Writes the model `ref` in one of FORMATS and returns its folder, which appears whole or not at all.

    Raises EdgewiseError for a model that can't be read, and as `new_folder` does.
    """
    check_free(directory)
    checkpoint = find.find(ref, "REF", tracking)
    from train.pretrained.load import load  # JAX starts here

    params = load(checkpoint, checkpoint.size, None)
    with new_folder(directory) as unfinished:
        if layout == "t5x":
            from train.pretrained import t5x

            t5x.save(unfinished, checkpoint.size, params)
        else:
            hf.save(unfinished, checkpoint.size, params)
        if checkpoint.vocabulary is not None:
            shutil.copyfile(checkpoint.vocabulary, unfinished / hf.VOCABULARY)
            if layout == "hf":
                write_tokenizer_config(unfinished, checkpoint)
        if checkpoint.artifact is not None and softmax_of(checkpoint.artifact.metadata.get("cell", {})) == LABELS:
            print(
                f"note: its softmax is over the tokens of its labels alone (train.softmax={LABELS}): compare their "
                "logits, and no others",
                file=sys.stderr,
            )
    return directory


def write_tokenizer_config(folder: Path, checkpoint: find.Checkpoint) -> None:
    """Writes what transformers' T5 tokenizer has to know: how many sentinels there are.

    They are as many as there is room for in the embedding, up to 100: by itself the tokenizer would add ids beyond a
    small model's embedding. It has none for a vocabulary of whole words: a note says so, and no config is written.
    """
    from train.data.tokens import Vocabulary

    assert checkpoint.vocabulary is not None and checkpoint.size.vocabulary_size is not None
    vocabulary = Vocabulary.from_file(checkpoint.vocabulary)
    if vocabulary.of_words:
        print(
            f"note: {hf.VOCABULARY} is of whole words, which transformers' tokenizers read otherwise: encode by the "
            "sentencepiece package, each mark of punctuation between spaces",
            file=sys.stderr,
        )
        return
    room = checkpoint.size.vocabulary_size - vocabulary.size
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": max(0, min(100, room))}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m train.export", description="Writes a model for other T5 code.")
    parser.add_argument("ref", metavar="REF", help="model-D-S-sN:latest, or a Hub id, a folder, a gs:// address")
    parser.add_argument("directory", metavar="DIR", type=Path, help="a folder that doesn't exist yet")
    parser.add_argument("format", nargs="?", default="format=hf", metavar="format=hf|t5x", help="default: %(default)s")
    parser.add_argument("--root", default="runs", help="the store's folder (tracking.root); default: %(default)s")
    options = parser.parse_args(arguments)
    layout = options.format.removeprefix("format=")
    try:
        if layout not in FORMATS:
            raise EdgewiseError(f"{options.format}: expected format=hf or format=t5x")
        folder = export(options.ref, options.directory, layout, Tracking(root=options.root))
    except EdgewiseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {folder}")
    return 0


if __name__ == "__main__":
    run_command(main)
