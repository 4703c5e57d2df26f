"""Answers the paper's claims with a family of sizes that is pre-trained here: `just study imdb DATA`.

DATA holds `imdb_full/` (train, test and unsup, Parquet) and, for `just study banking77 DATA`, `banking77/`. Each step
is a command of the product in the stores under `--root`: what is done is not done again, so a study goes on where it
was, and takes more seeds or further sizes later. The store `ROOT/scratch` has the same sizes without pre-training.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from bench.product import run
from bench.study.claims import Output
from bench.study.page import pretrained_sizes, study_text, write_study
from conf.machine import cores
from tests.support import REPO
from tracking.store import Store

PAGE = REPO / "docs" / "study.md"
TEXT = "imdb_reviews"  # the plain text that sizes are pre-trained on
REVIEWS = ("train.parquet", "unsup.parquet", "test.parquet")


@dataclass(frozen=True)
class Study:
    """Names a dataset that the sizes are fine-tuned on: its folder in DATA and its experiment."""

    title: str
    folder: str
    experiment: str


STUDIES = {
    "imdb": Study("IMDB", "imdb_full", "study_imdb"),
    "banking77": Study("Banking77", "banking77", "study_banking77"),
}


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options. Exits with status 2 for flags that are not its own."""
    parser = argparse.ArgumentParser(prog="just study", description=__doc__)
    parser.add_argument("dataset", choices=sorted(STUDIES))
    parser.add_argument("data", type=Path)
    parser.add_argument("--sizes", default="nano,micro", help="by commas, as size= takes them; the smallest first")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pretraining-steps", type=int, help="by default those of conf/experiment/study_reviews.yaml")
    parser.add_argument("--steps", type=int, help="of fine-tuning, by default those of the dataset's experiment")
    parser.add_argument("--reviews", type=int, help="take the first so many rows of each file alone, for a trial")
    parser.add_argument("--no-scratch", action="store_true", help="leave out the sizes without pre-training")
    parser.add_argument("--root", type=Path, default=Path("runs/study"))
    parser.add_argument("--out", type=Path, default=Path("out/study"))
    parser.add_argument("--scores", type=Path, help="the folder for the scores' files; default: OUT/scores/DATASET")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--machine", default=f"{cores()} CPU cores", help="what the page says that it ran on")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE for every command, such as mesh.data=1")
    return parser.parse_intermixed_args(arguments)


def few_reviews(folder: Path, rows: int, target: Path) -> Path:
    """Writes every k-th row of each file, `rows` in all, into `target`, and returns it."""
    target.mkdir(parents=True, exist_ok=True)
    for name in REVIEWS:
        table = pq.read_table(folder / name)
        taken = [i * table.num_rows // rows for i in range(min(rows, table.num_rows))]
        pq.write_table(table.take(taken), target / name)
    return target


def pre_train(options: argparse.Namespace, reviews: Path) -> None:
    """Trains each size on the training and the unlabelled reviews."""
    steps = [] if options.pretraining_steps is None else [f"train.steps={options.pretraining_steps}"]
    given = [f"dataset.path={reviews}", f"dataset.name={TEXT}", f"size={options.sizes}", *steps]
    run("train", "-m", "experiment=study_reviews", *given, f"tracking.root={options.root}", *options.overrides)


def fine_tune(options: argparse.Namespace, study: Study, folder: Path) -> Path:
    """Trains and scores every seed of each size from its pre-training, and makes the tables; returns where."""
    out: Path = options.out / options.dataset
    init = f'train.init="model-{TEXT}-{{size}}-s0:latest"'
    sweep(options, study, folder, init, f"tracking.root={options.root}", f"metrics.out={out}")
    return out


def train_from_scratch(options: argparse.Namespace, study: Study, folder: Path) -> Path:
    """Trains the same cells without pre-training, with the same vocabulary; returns the metrics output."""
    first = options.sizes.split(",")[0]
    vocabulary = Store(options.root, create=False).artifact(f"model-{TEXT}-{first}-s0:latest").file("spiece.model")
    out: Path = options.out / f"{options.dataset}_scratch"
    root = f"tracking.root={options.root / 'scratch'}"
    sweep(options, study, folder, f"tokenizer.path={vocabulary}", root, f"metrics.out={out}")
    return out


def sweep(options: argparse.Namespace, study: Study, folder: Path, *given: str) -> None:
    """Runs the grid of sizes and seeds on a dataset, with what is given beside it."""
    steps = [] if options.steps is None else [f"train.steps={options.steps}"]
    grid = [f"dataset.path={folder}", f"size={options.sizes}", f"seed=range({options.seeds})"]
    run("sweeps", "-m", f"experiment={study.experiment}", *grid, *given, *steps, *options.overrides)


def release_scores(options: argparse.Namespace, target: Path) -> None:
    """Copies the scores of the study's runs into `target`: files that `python -m metrics 'metrics.scores=…'` reads.

    What another study left there is removed, so that all files are of one grid.
    """
    target.mkdir(parents=True, exist_ok=True)
    for file in target.glob("*.parquet"):
        file.unlink()
    sizes = options.sizes.split(",")
    for artifact in Store(options.root, create=False).artifacts("scores-*", type="scores"):
        cell = artifact.metadata
        in_grid = cell.get("size") in sizes and cell.get("seed") in range(options.seeds)
        if cell.get("dataset") == options.dataset and in_grid and "latest" in artifact.aliases:
            shutil.copyfile(artifact.file("scores.parquet"), target / f"{artifact.name}.parquet")


def command_line(options: argparse.Namespace) -> str:
    """Returns the command that makes the study again, without the paths of this machine."""
    words = ["just", "study", options.dataset, "DATA", "--sizes", options.sizes, "--seeds", str(options.seeds)]
    for flag in ("pretraining_steps", "steps", "reviews"):
        if (value := getattr(options, flag)) is not None:
            words += [f"--{flag.replace('_', '-')}", str(value)]
    return shlex.join([*words, *(["--no-scratch"] if options.no_scratch else []), *options.overrides])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the steps that are not done, and writes the page."""
    options = options_of(sys.argv[1:] if arguments is None else arguments)
    options.root, options.out, data = options.root.absolute(), options.out.absolute(), options.data.absolute()
    study = STUDIES[options.dataset]
    reviews, folder = data / STUDIES["imdb"].folder, data / study.folder
    if options.reviews is not None:
        reviews = few_reviews(reviews, options.reviews, options.root / "few_reviews")
        folder = reviews if study is STUDIES["imdb"] else folder
    pre_train(options, reviews)
    out = fine_tune(options, study, folder)
    scratch = None if options.no_scratch else train_from_scratch(options, study, folder)
    release_scores(options, options.scores or options.out / "scores" / options.dataset)
    output = Output.read(out)
    text = study_text(
        study.title,
        output,
        None if scratch is None else Output.read(scratch),
        pretrained_sizes(Store(options.root, create=False), TEXT),
        command_line(options),
        options.machine,
    )
    write_study(options.page, output, text, out)
    print(f"{options.page}: the part of {study.title} is written")


if __name__ == "__main__":
    main()
