"""Runs a switcher over a file: looks through it first, answers chunk by chunk, and joins the chunks in the end."""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conf.errors import EdgewiseError, first_line
from conf.schema import Config
from infer.apply.parts import WHOLE, Parts
from infer.apply.table_files import NO_ANSWER, Answer, Chunk, TableFile, table_file
from infer.switcher.find import FoundSwitcher, find_switcher
from infer.watch.watch import Watch
from tracking import open_tracker
from tracking.files import written_whole
from tracking.interface import Run, Tracker
from train.data.template import template_fields
from train.device_errors import OF_SCORING, device_errors
from train.identity import identity_hash
from train.progress import progress
from train.stopping import Stop, Stopped, stop_signals

if TYPE_CHECKING:
    from infer.engine.engine import Answers, Engine

    Start = Callable[[FoundSwitcher, Config], Engine]

APPLYING_VERSION = 1  # counts changes of the code that change what the same file and switcher give
NAMED_ROWS = 5  # that can't be answered, in a message


@dataclass
class Counts:
    """Counts rows and how they were answered; `alarms` say where the rows differ from what the switcher was made on."""

    rows: int = 0
    bad: int = 0
    deferred: int = 0
    answered: dict[str, int] = field(default_factory=dict)  # by the stage's name
    alarms: list[str] = field(default_factory=list)

    def add(self, noted: dict[str, Any]) -> None:
        """Adds what was noted of a part."""
        self.rows += noted["rows"]
        self.bad += noted["bad"]
        self.deferred += noted["deferred"]
        for name, count in noted["answered"].items():
            self.answered[name] = self.answered.get(name, 0) + count


def start_engine(found: FoundSwitcher, config: Config) -> "Engine":
    """Returns the switcher with its models on the devices; JAX starts here."""
    from infer.engine.load import load_engine
    from train.compilation_cache import keep_compiled

    keep_compiled()
    return load_engine(found, config)


def apply(config: Config, start: "Start" = start_engine) -> Counts:
    """Writes `apply.output`: the rows of `apply.input` with the switcher's answers; returns what was counted.

    The run is tracked and uses the switcher's artifact; it holds counts and digests, never text or paths. Cut off, the
    same command goes on, and ends with the same bytes. Done already, it does nothing. Raises EdgewiseError, before
    anything is written, for a switcher, an input or an output that can't be used. `start` is called where there is
    something to answer.
    """
    source, output = _checked_paths(config)
    found = find_switcher(config.switcher.ref, config.tracking)
    table = table_file(source, _file_columns(found, config))
    state = {
        "version": APPLYING_VERSION,
        "switcher": found.digest,
        "input": _sha256(source),
        "format": source.suffix[1:].lower(),
        "columns": dict(table.fields),
        "bad_rows": config.apply.bad_rows,
        "chunk_rows": config.apply.chunk_rows,
    }
    run_id = f"apply-{identity_hash(state)}"
    tracker = None if found.artifact is None else open_tracker(config.tracking)
    parts = Parts(output, state)
    if os.path.exists(output) and not config.force and not parts.wrote(digest := _sha256(output)):
        if tracker is None:
            known = "no run of a bundle is kept that would say whether this command wrote it"
        elif (done := _finished(tracker, run_id, digest)) is not None:
            print(f"{output} is there already, as this command writes it; force=true writes it again")
            return done
        else:
            known = "not as this command would write it"
        raise EdgewiseError(
            f"apply.output={output} is there already, and {known}: give another name, or force=true to write over it"
        )
    rows = _look_through(table, config)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        stack.enter_context(parts.held())
        run: Run | None = None
        if tracker is not None and found.artifact is not None:
            run = stack.enter_context(
                tracker.start_run(
                    run_id,
                    job_type="apply",
                    name=f"apply {found.policy.name}",
                    group=config.tracking.group,
                    tags=[found.policy.dataset],
                    config=state,
                    restart=True,
                )
            )
            run.use_artifact(found.artifact)
        started = time.monotonic()
        try:
            with device_errors(OF_SCORING):
                counts, digest = _answer_all(table, found, config, parts, rows, stop, start)
        except Stopped:
            if run is not None:
                run.finish("stopped", f"stopped by signal {stop.received}: the same command goes on")
            raise
        except BaseException as error:
            if run is not None:  # without the error's text, which may quote a row
                run.finish("failed", f"{type(error).__name__} while it answered; the terminal said more")
            raise
        if run is not None:
            run.set_summary({**vars(counts), "output": digest, "seconds": time.monotonic() - started})
    parts.remove()
    return counts


def _answer_all(
    table: TableFile, found: FoundSwitcher, config: Config, parts: Parts, rows: int, stop: Stop, start: "Start"
) -> tuple[Counts, str]:
    """Answers every chunk that isn't done yet, and joins them; returns what was counted, and the output's sha256.

    Raises EdgewiseError where the input or the output was changed by something else meanwhile.
    """
    counts = Counts()
    output = Path(config.apply.output or "")
    number, size = 0, config.apply.chunk_rows
    engine: Engine | None = None
    watch, watched = Watch(found.policy, config.apply, None), None  # its state after the last part that was done
    with progress(f"answering by {found.policy.name}", rows, "rows") as meter:
        for number, chunk in enumerate(stop.between(table.chunks(size)), 1):
            noted = parts.note(number - 1)
            if noted is None:
                if engine is None:
                    engine = start(found, config)
                if watched is not None:  # one way for whole and resumed runs: they end with the same alarms
                    watch.restore(watched)
                noted = _answer_chunk(engine, table, chunk, parts.path(number - 1), stop, watch, number)
                parts.commit(number - 1, noted)
            counts.add(noted)
            watched = noted.get("watch")
            meter.advance(len(chunk), f"{100 * counts.deferred / max(counts.rows, 1):.1f} % deferred")
    if counts.rows != rows or _sha256(table.path) != parts.state["input"]:
        raise EdgewiseError(
            f"{table.path} changed while it was read: it had {rows:,} rows, and {counts.rows:,} were answered. Nothing "
            "was written; run the same command again when the file is whole"
        )
    if watched is not None:
        watch.restore(watched)
    counts.alarms = [f"{alarm.name}: {alarm.message}" for alarm in watch.alarms]
    whole = parts.folder / WHOLE  # beside the output, so that a kill leaves nothing elsewhere
    table.join([parts.path(i) for i in range(number)], whole)
    digest = _sha256(whole)
    if os.path.exists(output) and not config.force and not parts.wrote(_sha256(output)):
        raise EdgewiseError(
            f"apply.output={output} was written by something else meanwhile: move it away and run the same command "
            "again, which goes on, or give force=true to write over it"
        )
    parts.note_written(digest)
    os.replace(whole, output)
    return counts, digest


def _answer_chunk(
    engine: "Engine", table: TableFile, chunk: Chunk, part: Path, stop: Stop, watch: Watch, number: int
) -> dict[str, Any]:
    """Writes a chunk with its answers and returns what to note of it; raises Stopped between two batches.

    The watch looks at the rows of a chunk in an order drawn by its number, so that neighbours may be alike.
    """
    good = [place for place in range(len(chunk)) if place not in chunk.bad]
    columns = {name: [values[place] for place in good] for name, values in chunk.columns.items()}
    names = [stage.name for stage in engine.policy.stages]
    answers = [NO_ANSWER] * len(chunk)
    answered: dict[str, int] = {}
    deferred = 0
    if good:
        given = engine.answer(columns, lambda _: stop.check())
        for place, answer in zip(good, _rows_of(given, names), strict=True):
            answers[place] = answer
        answered = {name: int((given.stage == k).sum()) for k, name in enumerate(names)}
        deferred = int(given.deferred.sum())
        order = np.random.default_rng(number).permutation(len(good))
        watch.answered(given.first_log_score[order], given.deferred[order])
    with written_whole(part) as partial:
        table.write_part(partial, chunk, answers)
    return {
        "rows": len(chunk),
        "bad": len(chunk.bad),
        "deferred": deferred,
        "answered": answered,
        "watch": watch.state(),
    }


def _rows_of(given: "Answers", names: list[str]) -> list[Answer]:
    """Returns what is added to each row."""
    columns = (given.prediction.tolist(), given.stage.tolist(), given.score.tolist(), given.deferred.tolist())
    return [Answer(text, names[stage], score, deferred) for text, stage, score, deferred in zip(*columns, strict=True)]


def _look_through(table: TableFile, config: Config) -> int:
    """Reads the whole input and returns how many rows it has.

    What is wrong with it is found before any work is done. Raises EdgewiseError for what its format doesn't allow, for
    no rows, and, where bad rows are to stop the command, for those, by their numbers from 1.
    """
    rows = bad = 0
    named: list[str] = []
    for chunk in table.chunks(config.apply.chunk_rows):
        bad += len(chunk.bad)
        named += [f"row {rows + place + 1}: {problem}" for place, problem in sorted(chunk.bad.items())]
        del named[NAMED_ROWS:]
        rows += len(chunk)
    if rows == 0:
        raise EdgewiseError(f"{table.path}: no rows; expected one or more")
    if not bad:
        return rows
    said = "; ".join(named) + (f"; and {bad - len(named):,} more" if bad > len(named) else "")
    if config.apply.bad_rows == "stop":
        raise EdgewiseError(
            f"{table.path}: {bad:,} of {rows:,} rows can't be answered: {said}. Mend them, or keep them without an "
            "answer: apply.bad_rows=keep"
        )
    print(f"{table.path}: {bad:,} of {rows:,} rows stay without an answer: {said}", file=sys.stderr)
    return rows


def _checked_paths(config: Config) -> tuple[Path, Path]:
    """Returns input and output. Raises EdgewiseError where one isn't given, or can't be that."""
    for key in ("input", "output"):
        if getattr(config.apply, key) is None:
            raise EdgewiseError(f"apply.{key} is not set: give apply.{key}=FILE (.csv, .tsv, .jsonl or .parquet)")
    source, output = _named("input", config.apply.input or ""), _named("output", config.apply.output or "")
    config.apply.output = str(output)
    if not os.path.isfile(source):  # unlike Path's, these take a name that is too long for one that isn't there
        other = "a pipe or a device" if os.path.exists(source) else "no such file"
        raise EdgewiseError(f"apply.input={source}: {'a folder' if os.path.isdir(source) else other}; expected a file")
    table_file(source, {})
    if source.suffix.lower() != output.suffix.lower():
        raise EdgewiseError(
            f"apply.output={output}: expected a name that ends in {source.suffix.lower()}, as the input does"
        )
    if os.path.exists(output) and (output.is_dir() or os.path.samefile(source, output)):
        what = "is a folder" if output.is_dir() else "is the input itself"
        raise EdgewiseError(f"apply.output={output} {what}: give another name")
    return source, output


def _named(key: str, name: str) -> Path:
    """Returns the path that apply's key names; EdgewiseError for the home of somebody who isn't known here."""
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise EdgewiseError(f"apply.{key}={name}: {first_line(error)} Expected the name of a file") from None


def _file_columns(found: FoundSwitcher, config: Config) -> dict[str, str]:
    """Returns the file's column for each field of the template; EdgewiseError for a field that it doesn't have."""
    fields = template_fields(found.policy.template)
    columns: dict[str, str] = {}
    for theirs, name in (config.apply.columns or {}).items():
        if name not in fields:
            raise EdgewiseError(
                f"apply.columns={{{theirs}: {name}}}: the switcher reads {', '.join(fields)}, not {name}; write the "
                "file's name first, then one of those"
            )
        if name in columns:
            raise EdgewiseError(
                f"apply.columns: {columns[name]} and {theirs} are both to be read as {name}; name one of them"
            )
        columns[name] = theirs
    return {name: columns.get(name, name) for name in fields}


def _finished(tracker: Tracker, run_id: str, digest: str) -> Counts | None:
    """Returns what the run counted that wrote an output with this hex sha256; None where there is none."""
    record = tracker.run(run_id)
    if record is None or record.state != "finished" or record.summary.get("output") != digest:
        return None
    counted = {name: record.summary[name] for name in ("rows", "bad", "deferred", "answered")}
    return Counts(**counted, alarms=record.summary.get("alarms", []))


def _sha256(path: Path) -> str:
    """Returns the hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
