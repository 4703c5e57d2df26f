"""Runs the evaluation of a switcher on a labelled split, and logs it as `evaluation-D-S-L`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from conf.errors import EdgewiseError
from conf.names import joined_name
from conf.schema import Config
from infer.evaluate.result import evaluation, evaluation_page
from infer.switcher.find import find_switcher
from infer.switcher.policy import Policy
from infer.switcher.stage import MILLISECONDS, write_out
from metrics.figures.policy import TimedSide, write_evaluation_figure
from metrics.grid.clusters import AUTO, numbered_clusters
from metrics.scores import Strings
from metrics.statistics.text import bleu_statistics, exact_match
from tracking.interface import Artifact, ArtifactDraft, Tracker
from train.data.source import source_of
from train.data.splits import Split
from train.identity import identity_hash
from train.progress import progress
from train.stopping import stop_signals

RESULT, PAGE, FIGURE = "evaluation.json", "evaluation.md", "evaluation"


def evaluate(config: Config, tracker: Tracker) -> tuple[Artifact, dict[str, Any]]:
    """Measures the switcher `switcher.ref`, logs what was found, and returns it.

    Seconds are of this machine at this time, so each evaluation is a run of its own. Raises EdgewiseError where the
    split isn't made into text as the switcher's data set was, and as `find_switcher` does.
    """
    found = find_switcher(config.switcher.ref, config.tracking)
    policy = found.policy
    rows = source_of(config.dataset)
    split = rows.split(config.infer.split)
    _check_alike(policy, config)
    places = _drawn(len(split), config)
    texts = [split.inputs[place] for place in places]
    from infer.engine.load import load_engine  # JAX starts here
    from infer.evaluate.energy import EnergyMeter
    from infer.evaluate.measure import take_turns
    from train.compilation_cache import keep_compiled

    keep_compiled()
    engine = load_engine(found, config)
    energy = EnergyMeter(engine.on_gpu)
    turns = (config.evaluate.rounds + 1) * (len(policy.stages) + 1)
    with stop_signals() as stop, progress(f"evaluating {policy.name}", turns, "turns") as meter:
        sides = take_turns(engine, texts, config.evaluate.rounds, energy, stop, meter)
    qualities = [
        answer_quality(policy.task, side.prediction, split, places, config.infer.bleu_tokenizer) for side in sides
    ]
    facts: dict[str, Any] = {
        "switcher": policy.name if found.artifact is None else found.ref,  # not where a bundle lies
        "digest": found.digest,
        "dataset": config.dataset.name,
        "split": split.name,
        "fingerprint": split.fingerprint,
        "examples": len(places),
        "rounds": config.evaluate.rounds,
        "device": engine.device,
        "energy": energy.source,
    }
    result = evaluation(policy, sides, qualities, facts, _clusters(split, places))
    name = joined_name("evaluation", policy.dataset, *(stage.size for stage in policy.stages))
    with (
        tracker.temporary_directory() as folder,
        tracker.start_run(
            f"{name}-{identity_hash(result)}",
            job_type="evaluate",
            name=f"evaluate {policy.name} {split.name}",
            group=config.tracking.group,
            tags=[config.dataset.name],
            config=facts,
            restart=True,
        ) as run,
    ):
        if found.artifact is not None:
            for artifact in (found.artifact, *found.models):
                run.use_artifact(artifact)
        files = _write(result, name, folder)
        by_size = zip(policy.stages, result["sides"][1:], strict=True)
        metadata = facts | {
            MILLISECONDS: {stage.size: row["ms_per_example"]["median"] for stage, row in by_size},
            "speedup": result["speedup"],
        }
        logged = run.log_artifact(ArtifactDraft(name, "evaluation", metadata, {file.name: file for file in files}))
        run.log_image("evaluation", folder / f"{FIGURE}.png")
        run.set_summary({"artifact": logged.ref, "speedup": result["speedup"], "promise": result["promise"]})
    if config.evaluate.out is not None:
        write_out(logged, Path(config.evaluate.out))
    return logged, result


def answer_quality(
    task: str, prediction: np.ndarray, split: Split, places: np.ndarray, bleu_tokenizer: str
) -> np.ndarray:
    """Returns how good answers [n] are to the rows `places` [n] of a split: [n, 1] bool, or [n, 10] BLEU statistics."""
    golds = split.golds or [[target] for target in split.targets]
    own = [golds[place] for place in places]
    if task == "translation":
        return bleu_statistics(prediction.tolist(), own, bleu_tokenizer)
    if task == "span_qa":
        return np.array([[exact_match(answer, texts)] for answer, texts in zip(prediction, own, strict=True)])
    return np.array([[answer == texts[0]] for answer, texts in zip(prediction, own, strict=True)])


def _clusters(split: Split, places: np.ndarray) -> np.ndarray | None:
    """Numbers the clusters of the rows `places` [n] as metrics does by default: [n] int; None where there are none."""
    if split.cluster is None:
        return None
    column = Strings.of([split.cluster[place] for place in places])
    return numbered_clusters(AUTO, column, {}, split.name, notes=[])


def _check_alike(policy: Policy, config: Config) -> None:
    """Raises EdgewiseError where rows become text, or labels targets, in another way than the switcher's did."""
    dataset = config.dataset
    labels = list(map(list, (dataset.classes or {}).items()))
    for key, own, theirs in (
        ("task", dataset.task, policy.task),
        ("template", dataset.template, policy.template),
        ("classes", [target for _, target in labels], policy.classes),
    ):
        if own != theirs:
            raise EdgewiseError(
                f"dataset.{key}={own} of dataset {dataset.name}, but {policy.name} was made with {theirs}: "
                "give the data set that it was made for (dataset=…), or one that is made into text alike"
            )


def _drawn(rows: int, config: Config) -> np.ndarray:
    """Returns which rows are used: all, or `evaluate.examples` of them, drawn by `evaluate.seed`; ascending."""
    most = config.evaluate.examples
    if most is None or rows <= most:
        return np.arange(rows)
    rng = np.random.default_rng(np.random.SeedSequence(config.evaluate.seed, spawn_key=(19,)))
    return np.sort(rng.choice(rows, most, replace=False))


def _write(result: dict[str, Any], name: str, folder: Path) -> list[Path]:
    """Writes the artifact's files and returns their paths."""
    (folder / RESULT).write_text(json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(evaluation_page(result, name, f"{FIGURE}.svg"), encoding="utf-8")
    sides = [TimedSide(row["side"], row["ms_per_example"], row["quality"]) for row in result["sides"]]
    write_evaluation_figure(sides, result["measure"], folder / FIGURE)
    return [folder / file for file in (RESULT, PAGE, f"{FIGURE}.png", f"{FIGURE}.svg")]
