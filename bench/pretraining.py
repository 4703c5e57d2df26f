"""Measures what pre-training on plain text gives, and writes it into docs/pretraining.md: `just pretraining DATA`.

DATA holds `imdb_full/` (reviews, of which the training and the unlabelled ones are pre-trained on) and `sst2/`
(sentences of other reviews to fine-tune on). Each size is pre-trained once; then the same seeds are fine-tuned from it
and from scratch, with the same vocabulary and recipe. What is done is not done again, so an interrupted measurement
goes on.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from bench.marked_page import write_between_marks
from tests.support import REPO
from tracking.interface import NotFound
from tracking.store import Store

PAGE, MARKS = REPO / "docs" / "pretraining.md", ("<!-- measured -->", "<!-- end of measured -->")
SIZES, TEXT, TASK = ("nano", "micro"), "reviews", "sst2"
TUNING_STEPS = 200
PRE_TRAINING = (
    "dataset=text",
    f"dataset.name={TEXT}",
    "dataset.splits={train: [train, unsup]}",
    "dataset.max_input_length=128",
    "tokenizer.vocabulary_size=4000",
    "train.batch_size=32",
    "train.eval_every=100",
    "optimizer.learning_rate=0.02",
    "optimizer.warmup_steps=100",
)


def run(*arguments: str) -> None:
    """Runs `python -m` with these arguments; raises CalledProcessError where it fails."""
    subprocess.run([sys.executable, "-m", *arguments], cwd=REPO, check=True)


def pre_train(data: Path, root: Path, steps: int) -> None:
    """Trains each size on the reviews, by corrupted spans."""
    sizes = f"size={','.join(SIZES)}"
    given = (f"dataset.path={data / 'imdb_full'}", f"tracking.root={root}", f"train.steps={steps}")
    run("train", "-m", *PRE_TRAINING, sizes, *given)


def fine_tune(data: Path, root: Path, seeds: int) -> None:
    """Trains each size's seeds on the sentences: from its pre-training, and from scratch in another store beside it."""
    common = (
        "experiment=sst2_scratch",
        f"dataset.path={data / TASK}",
        f"size={','.join(SIZES)}",
        f"seed=range({seeds})",
        "sweeps.metrics=false",
        "size.vocabulary_size=null",
        f"train.steps={TUNING_STEPS}",
        "optimizer.warmup_steps=40",
    )
    run("sweeps", "-m", *common, f"tracking.root={root}", f'train.init="model-{TEXT}-{{size}}-s0:latest"')
    vocabulary = Store(root).artifact(f"model-{TEXT}-{SIZES[0]}-s0:latest").file("spiece.model")
    run("sweeps", "-m", *common, f"tracking.root={scratch_root(root)}", f"tokenizer.path={vocabulary}")


def scratch_root(root: Path) -> Path:
    """Returns the store of what is trained from scratch."""
    return root.with_name(f"{root.name}_scratch")


def accuracies(root: Path, size: str) -> list[float]:
    """Returns the test accuracies of a size's seeds, in per cent, as far as there are any."""
    store, found = Store(root, create=False), []
    try:
        while True:
            found.append(100 * store.artifact(f"scores-{TASK}-{size}-s{len(found)}-test:latest").metadata["accuracy"])
    except NotFound:
        return found


def report(root: Path) -> str:
    """Returns the page's part: losses of what is held out, and accuracies from the pre-training and from scratch."""
    store = Store(root, create=False)
    lines = []
    for size in SIZES:
        [pre_training] = [
            record for record in store.runs(job_type="train", state="finished") if record.tags == [TEXT, size]
        ]
        history = [point for point in store.history(pre_training.id) if "validation_loss" in point]
        losses = ", ".join(f"{point['validation_loss']:.2f} ({point['step']:,})" for point in history)
        pre_trained, scratch = accuracies(root, size), accuracies(scratch_root(root), size)
        lines.append(
            f"| {size} | {pre_training.summary['parameters']:,} | {losses} | {in_words(pre_trained)} | "
            f"{in_words(scratch)} | {mean(pre_trained) - mean(scratch):+.1f} |"
        )
    train = pre_training.config["train"]
    heads = (
        "size | parameters | held-out loss, nats a token (step) | SST-2 from it, % (seeds) | from scratch, % (seeds) | "
    )
    return "\n".join(
        [
            f"Pre-trained on {pre_training.summary['train_documents']:,} reviews of IMDB "
            f"({pre_training.summary['train_tokens'] / 1e6:.1f} million tokens; {train['steps']:,} steps of "
            f"{train['batch_size']} rows, "
            f"{train['steps'] * train['batch_size'] / pre_training.summary['train_rows']:.0%} of the rows), fine-tuned "
            f"and scored on SST-2 by the recipe `sst2_scratch`, in {TUNING_STEPS} steps:",
            "",
            f"| {heads}difference |",
            "| --- | --: | --- | --- | --- | --: |",
            *lines,
            "",
            "Made by `just pretraining DATA` on a CPU; of few seeds, so small differences say nothing.",
        ]
    )


def mean(values: list[float]) -> float:
    """Returns the mean."""
    return sum(values) / len(values)


def in_words(values: list[float]) -> str:
    """Returns the mean, and the values of the seeds in brackets."""
    return f"{mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


def main() -> None:
    """Trains what is missing, and writes the page."""
    parser = argparse.ArgumentParser(prog="just pretraining", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--root", type=Path, default=Path("runs/pretraining"), help="the store; default: %(default)s")
    parser.add_argument("--steps", type=int, default=600, help="of the pre-training; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="of each fine-tuning; default: %(default)s")
    options = parser.parse_args()
    root = options.root.absolute()
    pre_train(options.data.absolute(), root, options.steps)
    fine_tune(options.data.absolute(), root, options.seeds)
    write_between_marks(PAGE, MARKS, report(root))


if __name__ == "__main__":
    main()
