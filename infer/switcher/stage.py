"""Runs the switcher stage: from a dataset's scores artifacts to an artifact `switcher-D-S-L`."""

import json
from pathlib import Path
from typing import Any

from conf.errors import EdgewiseError
from conf.names import joined_name
from conf.schema import Config
from infer.self_check import FILE as SELF_CHECK
from infer.switcher.card import MEASURES, card
from infer.switcher.choose import Candidate, Chosen, choose_switcher
from infer.switcher.policy import Policy, policy_json, read_policy
from metrics.figures.policy import PolicyCurve, write_policy_figure
from metrics.stage import scores_artifacts
from tracking.files import written_whole
from tracking.interface import Artifact, ArtifactDraft, NotFound, Tracker
from train.identity import identity_hash

CHOOSING_VERSION = 2  # counts changes of the code that change what the same scores give
POLICY, CARD, CURVE = "policy.json", "card.md", "curve"
NOT_IN_IDENTITY = ("out", "ref", "measured")
MILLISECONDS = "ms_per_example"  # of an evaluation's metadata: by size


def make_switcher(config: Config, tracker: Tracker) -> tuple[Artifact, Policy, list[str]]:
    """Chooses a switcher, logs it with an edge to every scores artifact and model that it used, and returns it.

    The same scores and settings are not chosen from again unless `force`. Also returns notes for whoever deploys it.
    Raises EdgewiseError as `choose_switcher` does, and where there are no scores or no models of them.
    """
    settings = config.switcher
    if settings.goal is None:
        raise EdgewiseError(
            "switcher.goal is not set: give switcher.goal=budget switcher.budget=0.2, switcher.goal=cost "
            "switcher.cost=0.5, switcher.goal=match, switcher.goal=certified switcher.epsilon=0.01 or "
            "switcher.goal=best"
        )
    runs, notes = find_candidates(config, tracker)
    measured = _measured(settings.measured, tracker)
    identity: dict[str, Any] = {
        "version": CHOOSING_VERSION,
        "dataset": config.dataset.name,
        "inputs": sorted([run.scores.name, run.scores.digest] for run in runs),
        "switcher": {key: value for key, value in vars(settings).items() if key not in NOT_IN_IDENTITY},
        "measured": None if measured is None else measured.digest,
    }
    run_id = f"{joined_name('switcher', config.dataset.name)}-{identity_hash(identity)}"
    if not config.force and (done := _finished(tracker, run_id)) is not None:
        tracker.make_latest(done)
        policy = read_policy(done.file(POLICY).read_text(encoding="utf-8"), done.ref)
        return done, policy, ["It was there already; force=true chooses again."]
    chosen = choose_switcher(runs, settings, None if measured is None else measured.metadata[MILLISECONDS])
    policy = chosen.policy
    with (
        tracker.temporary_directory() as folder,
        tracker.start_run(
            run_id,
            job_type="switcher",
            name=f"switcher {config.dataset.name} {settings.goal}",
            group=config.tracking.group,
            tags=[config.dataset.name],
            config=identity,
            restart=True,
        ) as run,
    ):
        if measured is not None:
            run.use_artifact(measured)
        used = {stage.model for stage in policy.stages}
        for candidate in runs:
            run.use_artifact(candidate.scores)
            if candidate.model.digest in used:
                run.use_artifact(candidate.model)
        files = write_files(chosen, folder)
        artifact = run.log_artifact(
            ArtifactDraft(policy.name, "switcher", _metadata(policy), {file.name: file for file in files})
        )
        run.log_image("curve", folder / f"{CURVE}.png")
        run.set_summary({"artifact": artifact.ref, "digest": artifact.digest} | _metadata(policy)["expected"])
    return artifact, policy, notes + chosen.notes


def find_candidates(config: Config, tracker: Tracker) -> tuple[list[Candidate], list[str]]:
    """Returns the scored runs that may be stages, each with its model, and notes on those that may not.

    Raises EdgewiseError for sizes and seeds without scores, and where no scored model is in the store.
    """
    dataset, settings = config.dataset.name, config.switcher
    scored = scores_artifacts(tracker, dataset, settings.split)
    if not scored:
        raise EdgewiseError(
            f"no scores artifact of dataset {dataset} and split {settings.split} to choose a switcher from; score "
            f"cells first: python -m sweeps -m dataset={dataset} size=A,B seed=0,1"
        )
    for key, wanted in (("size", settings.sizes), ("seed", settings.seeds)):
        there = {artifact.metadata.get(key) for artifact in scored}
        if wanted is not None and (missing := [value for value in wanted if value not in there]):
            raise EdgewiseError(
                f"switcher.{key}s={wanted}: {dataset} has no scores of {key} {', '.join(map(str, missing))} on "
                f"{settings.split}; it has {', '.join(sorted(map(str, there)))}"
            )
    scored = [
        artifact
        for artifact in scored
        if (settings.sizes is None or artifact.metadata.get("size") in settings.sizes)
        and (settings.seeds is None or artifact.metadata.get("seed") in settings.seeds)
    ]
    found, without = [], []
    for artifact in scored:
        model = _model(tracker, str(artifact.metadata.get("model", "")))
        if model is None:
            without.append(artifact.name)
        else:
            found.append(Candidate(artifact, model, _self_check(artifact)))
    if not found:
        raise EdgewiseError(
            f"none of the models that made {', '.join(without)} is in the store: a switcher is made of model "
            "artifacts. Train the cells here, or pull their artifacts (python -m tracking pull)"
        )
    notes = [f"Left out, because their models are not in the store: {', '.join(without)}."] if without else []
    return found, notes


def write_files(chosen: Chosen, folder: Path) -> list[Path]:
    """Writes the artifact's files into a folder and returns their paths: policy, card, and the curve twice."""
    policy = chosen.policy
    (folder / POLICY).write_text(policy_json(policy), encoding="utf-8")
    (folder / CARD).write_text(card(policy, f"{CURVE}.svg"), encoding="utf-8")
    drawn = PolicyCurve(
        cost_share=chosen.curve["cost_share"],
        quality=chosen.curve["quality"],
        place=chosen.place,
        chosen=policy.expected["quality"],
        largest=policy.expected["quality_of_largest"]["value"],
        chain=policy.chain,
        largest_name=policy.stages[-1].name,
        measure=MEASURES[policy.task],
    )
    write_policy_figure(drawn, folder / CURVE)
    return [folder / name for name in (POLICY, CARD, f"{CURVE}.png", f"{CURVE}.svg")]


def write_out(artifact: Artifact, folder: Path) -> None:
    """Writes the artifact's files into a folder of the person's, each whole."""
    for name in artifact.files:
        with written_whole(folder / name) as partial:
            partial.write_bytes(artifact.file(name).read_bytes())


def _metadata(policy: Policy) -> dict[str, Any]:
    """Returns what the artifact's metadata says of a switcher."""
    return {
        "dataset": policy.dataset,
        "task": policy.task,
        "split": policy.parts["split"],
        "sizes": [stage.size for stage in policy.stages],
        "seeds": [stage.seed for stage in policy.stages],
        "models": [stage.model for stage in policy.stages],
        "goal": policy.goal,
        "certificate": policy.certificate,
        "expected": {key: policy.expected[key]["value"] for key in ("deferred", "quality", "loss", "cost_share")},
    }


def _finished(tracker: Tracker, run_id: str) -> Artifact | None:
    """Returns the switcher that a run logged; None where it hasn't finished."""
    record = tracker.run(run_id)
    if record is None or record.state != "finished":
        return None
    return next((artifact for artifact in tracker.outputs(run_id) if artifact.type == "switcher"), None)


def _measured(ref: str | None, tracker: Tracker) -> Artifact | None:
    """Returns the evaluation that `switcher.measured` names; EdgewiseError where it is something else."""
    if ref is None:
        return None
    artifact = tracker.artifact(ref)
    if artifact.type != "evaluation" or MILLISECONDS not in artifact.metadata:
        raise EdgewiseError(
            f"switcher.measured={ref}: {artifact.ref} is a {artifact.type} artifact, expected an evaluation's "
            "(python -m infer.evaluate)"
        )
    return artifact


def _model(tracker: Tracker, digest: str) -> Artifact | None:
    """Returns the model artifact with this digest; None where the store has none."""
    try:
        artifact = tracker.artifact(digest)
    except NotFound:
        return None
    return artifact if artifact.type == "model" and artifact.digest == digest else None


def _self_check(artifact: Artifact) -> dict[str, Any] | None:
    """Returns what was kept beside a scores file of its model's self-check; None where nothing was."""
    if SELF_CHECK not in artifact.files:
        return None
    check: dict[str, Any] = json.loads(artifact.file(SELF_CHECK).read_text(encoding="utf-8"))
    return check
