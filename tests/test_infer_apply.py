"""Files in, the same with answers out: every format, what is refused, what a kill leaves; without a model."""

import copy
import csv
import json
import multiprocessing
import os
import random
import signal
import time
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf.errors import EdgewiseError
from conf.schema import Config, Dataset, Size, Tracking
from infer.apply.parts import Parts
from infer.apply.stage import apply
from infer.apply.table_files import COLUMNS, table_file
from infer.switcher.find import find_switcher
from tests.switchers import EchoEngine, log_runs, made_switcher, start_echo
from tracking.store import Store
from train.stopping import Stopped

HOSTILE = ["plain", "a,b", 'say "no"', "two\nlines", "car\rriage", "", " spaces ", "日本語 é", "=1+1", "x" * 5000]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder / "runs")
    log_runs(store, folder, examples=400, seeds=1)
    return store.root


@pytest.fixture(scope="module")
def base(root):
    """The config that applies the store's switcher, composed once."""
    config = Config(dataset=Dataset(name="synthetic"), size=Size(name="none"), tracking=Tracking(root=str(root)))
    config.switcher.goal, config.switcher.budget = "budget", 0.5
    artifact, _ = made_switcher(Store(root), config)
    config.switcher.ref = artifact.ref
    return config


@pytest.fixture
def settings(base):
    """A function: input, output, values of apply's keys -> the config that applies the store's switcher."""

    def make(source=None, output=None, force=False, **keys):
        config = copy.deepcopy(base)
        config.force = force
        for key, value in {"input": source and str(source), "output": output and str(output), **keys}.items():
            setattr(config.apply, key, value)
        config.apply.check()
        return config

    return make


def write_rows(path, texts):
    """Writes texts with an id and a number before and after them, as the path's ending says."""
    rows = [{"id": f"r{i}", "text": text, "n": i} for i, text in enumerate(texts)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    elif path.suffix == ".tsv":
        path.write_text("id\ttext\tn\n" + "".join(f"{row['id']}\t{row['text']}\t{row['n']}\n" for row in rows))
    else:
        with path.open("w", newline="") as out:
            writer = csv.DictWriter(out, ["id", "text", "n"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_rows(path):
    """Reads rows with every value as text."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    elif path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif path.suffix == ".tsv":
        names, *lines = [line.split("\t") for line in path.read_text().splitlines()]
        rows = [dict(zip(names, line)) for line in lines]
    else:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    return [
        {name: "" if v is None else str(v).replace("True", "true").replace("False", "false") for name, v in row.items()}
        for row in rows
    ]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_are_kept_and_answers_added(ending, settings, tmp_path):
    texts = [text for text in HOSTILE if ending != "tsv" or not set(text) & set("\n\r\t")]
    source = write_rows(tmp_path / f"in.{ending}", texts)
    output = tmp_path / "new" / f"out.{ending}"
    counts = apply(settings(source, output, chunk_rows=4), start_echo)
    rows = read_rows(output)
    assert [row["text"] for row in rows] == texts and [row["id"] for row in rows] == [
        f"r{i}" for i in range(len(texts))
    ]
    assert list(rows[0]) == ["id", "text", "n", *COLUMNS]
    for text, row in zip(texts, rows):
        assert row["prediction"] == text.upper()
        assert row["deferred"] == str(len(text) % 2 == 1).lower()
        assert row["model"] == ("base-s0" if len(text) % 2 else "small-s0")
        assert float(row["score"]) == pytest.approx(2.718281828459045 ** (-len(text) / 3))
    assert (counts.rows, counts.bad, counts.deferred) == (len(texts), 0, sum(len(text) % 2 for text in texts))
    assert not list(output.parent.glob(".*"))
    if ending == "parquet":
        assert pq.read_schema(output).types == [
            pa.string(),
            pa.string(),
            pa.int64(),
            pa.string(),
            pa.string(),
            pa.float64(),
            pa.bool_(),
        ]


def test_a_column_without_a_name_is_kept_and_another_s_name_is_read(settings, tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("\ufeff,review\n0,good\n1,bad one\n")
    apply(settings(source, output, columns={"review": "text"}), start_echo)
    assert output.read_text().splitlines()[0] == ",review,prediction,model,score,deferred"
    assert output.read_text().splitlines()[2].startswith("1,bad one,BAD ONE,base-s0,")


def test_what_separates_the_values_of_a_file_goes_on_separating_them(settings, tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('id;text\n1;a, b\n2;"c; d"\n')
    apply(settings(source, output), start_echo)
    lines = output.read_text().splitlines()
    assert lines[0] == "id;text;prediction;model;score;deferred"
    assert lines[1].startswith("1;a, b;A, B;") and lines[2].startswith('2;"c; d";"C; D";')


def test_the_run_uses_the_switcher_and_holds_no_text(settings, tmp_path, root):
    source = write_rows(tmp_path / "in.csv", ["a secret text", "another one"])
    config = settings(source, tmp_path / "out.csv")
    apply(config, start_echo)
    store = Store(root)
    run = max(store.runs(job_type="apply"), key=lambda run: run.started)
    assert run.state == "finished" and run.summary["rows"] == 2 and run.summary["deferred"] == 2
    assert [one.ref for one in store.inputs(run.id)] == [config.switcher.ref]
    assert b"secret" not in (root / "store.db").read_bytes() and "in.csv" not in json.dumps(run.config)


def test_done_is_done_and_what_is_not_ours_stays(settings, tmp_path, capsys):
    source, output = write_rows(tmp_path / "in.csv", ["one", "two"]), tmp_path / "out.csv"
    apply(settings(source, output), start_echo)
    before = output.read_bytes()

    def fails(found, config):
        raise AssertionError("nothing is to be answered again")

    assert apply(settings(source, output), fails).rows == 2 and "is there already" in capsys.readouterr().out
    output.write_text("mine")
    with pytest.raises(EdgewiseError, match="not as this command would write it"):
        apply(settings(source, output), start_echo)
    assert output.read_text() == "mine"
    apply(settings(source, output, force=True), start_echo)
    assert output.read_bytes() == before


class Cut(Exception):
    """Stands for a kill."""


def test_a_switcher_that_can_t_start_leaves_nothing(settings, tmp_path, root):
    source = write_rows(tmp_path / "in.csv", ["a private text"])

    def start(found, config):
        raise EdgewiseError("this machine doesn't compute a private text")

    with pytest.raises(EdgewiseError, match="this machine"):
        apply(settings(source, tmp_path / "out.csv", chunk_rows=7), start)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    run = max(Store(root).runs(job_type="apply"), key=lambda run: run.started)
    assert run.state == "failed" and run.error.startswith("EdgewiseError while it answered")
    assert b"private" not in (root / "store.db").read_bytes()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_what_is_done_is_not_done_again(ending, settings, tmp_path):
    source = write_rows(tmp_path / f"in.{ending}", [f"text {'x' * (i % 5)}" for i in range(50)])
    whole, output = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    apply(settings(source, whole, chunk_rows=8), start_echo)
    asked = []

    class Failing(EchoEngine):
        def answer(self, columns, advance):
            if len(asked) % 3 == 2:
                asked.append(0)
                raise Cut
            asked.append(1)
            return super().answer(columns, advance)

    cuts = 0
    while not output.exists():
        try:
            apply(settings(source, output, chunk_rows=8), lambda found, config: Failing(found.policy))
        except Cut:
            cuts += 1
    assert cuts == 3 and sum(asked) == 7  # of seven chunks none twice
    assert output.read_bytes() == whole.read_bytes()


def test_parts_of_something_else_are_not_taken(settings, tmp_path):
    source, output = write_rows(tmp_path / "in.csv", ["one", "two", "three"]), tmp_path / "out.csv"

    class Failing(EchoEngine):
        def answer(self, columns, advance):
            if self.asked == 2:
                raise Cut
            return super().answer(columns, advance)

    with pytest.raises(Cut):
        apply(settings(source, output, chunk_rows=1), lambda found, config: Failing(found.policy))
    assert len(list((tmp_path / ".out.csv.parts").glob("*.part"))) == 2
    write_rows(source, ["four", "five", "six"])
    apply(settings(source, output, chunk_rows=1), start_echo)
    assert [row["prediction"] for row in read_rows(output)] == ["FOUR", "FIVE", "SIX"]


def test_an_output_that_appeared_after_a_kill_stays(settings, tmp_path, monkeypatch):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ["a"] * 6)
    engine = EchoEngine(find_switcher(settings().switcher.ref, settings().tracking).policy)
    answer = engine.answer
    calls = []

    def cut_off(columns, advance):
        calls.append(columns)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(columns, advance)

    monkeypatch.setattr(engine, "answer", cut_off)
    with pytest.raises(KeyboardInterrupt):
        apply(settings(source, output, chunk_rows=2), lambda found, config: engine)
    output.write_text("somebody's own\n")
    with pytest.raises(EdgewiseError, match="is there already, and not as this command would write it"):
        apply(settings(source, output, chunk_rows=2), start_echo)

    def written_meanwhile(columns, advance):
        output.write_text("somebody's own\n")
        return answer(columns, advance)

    output.unlink()
    monkeypatch.setattr(engine, "answer", written_meanwhile)
    with pytest.raises(EdgewiseError, match="was written by something else meanwhile: move it away"):
        apply(settings(source, output, chunk_rows=2), lambda found, config: engine)
    assert output.read_text() == "somebody's own\n"
    assert apply(settings(source, output, chunk_rows=2, force=True), start_echo).rows == 6
    assert len(output.read_text().splitlines()) == 6


def test_a_kill_after_the_output_has_its_name_is_no_foreign_output(settings, tmp_path, monkeypatch):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ["a"] * 6)
    real = os.replace

    def killed(old, new):
        real(old, new)
        if new == output:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            apply(settings(source, output), start_echo)
    written = output.read_bytes()
    assert apply(settings(source, output), start_echo).rows == 6
    assert output.read_bytes() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_two_processes_don_t_write_one_output(settings, tmp_path):
    source, output = write_rows(tmp_path / "in.csv", ["one"]), tmp_path / "out.csv"
    with Parts(output, {"other": 1}).held(), pytest.raises(EdgewiseError, match="another process writes the same"):
        apply(settings(source, output), start_echo)
    apply(settings(source, output), start_echo)


BAD_FILES = {
    "ragged.csv": ("id,text\n1,a\n2\n", "row 2 has 1 values"),
    "quote.csv": ('id,text\n1,"a\n', "row 1: a quote is opened and never closed"),
    "latin.csv": (b"id,text\n1,\xe9t\xe9\n", "row 1: text is not UTF-8"),
    "empty.csv": ("", "the file is empty"),
    "header.csv": ("id,text\n", "no rows"),
    "named.csv": ("id,review\n1,a\n", r"no column text.*apply\.columns=\{OWN: text\}"),
    "twice.csv": ("text,text\n1,a\n", "two columns are named 'text'"),
    "taken.csv": ("text,score\na,1\n", "has a column score already"),
    "binary.csv": (b"text\n\0\0", "binary"),
    "ragged.tsv": ("id\ttext\n1\ta\tb\n", "row 1 has 3 values"),
    "broken.jsonl": ('{"text": "a"}\n{"text": \n', "line 2: not JSON"),
    "list.jsonl": ('["a"]\n', "line 1: expected an object"),
    "deep.jsonl": ("[" * 100_000, "line 1"),
    "taken.jsonl": ('{"text": "a", "model": 1}\n', "line 1 has model already"),
    "named.jsonl": ('{"review": "a"}\n', "no column text"),
    "missing.jsonl": (
        '{"text": "a"}\n{"text": null}\n{"id": 3}\n',
        "2 of 3 rows can't be answered: row 2: text is missing; row 3",
    ),
    "object.jsonl": ('{"text": {"a": 1}}\n', "row 1: text is a dict, expected text"),
    "surrogate.jsonl": ('{"text": "\\ud800"}\n', "row 1: text is not valid Unicode"),
    "nan.jsonl": ('{"text": NaN}\n', "line 1: the number NaN is not finite"),
    "text.parquet": ("text\na\n", "not a Parquet file"),
    "cut.parquet": (b"PAR1" + bytes(100), "can't be read as Parquet|damaged"),
    "zipped.csv": (b"\x1f\x8b\x08" + bytes(20), "binary"),
    "wide.csv": ("id,text\n".encode("utf-16"), "binary"),
    "late.csv": ("text\n" + "a\n" * 50_000 + '"open\n', "row 50001: a quote is opened"),
    "after.csv": ('text,id\n"a"b,1\n', "row 1: text follows a closing quote"),
    "more.csv": ("id,text\n1,a,b\n", "row 1 has 3 values"),
    "half.jsonl": ('{"text": "a"', "line 1: not JSON"),
    "twice.jsonl": ('{"text": "a", "text": "b"}\n', "two columns are named 'text'"),
    "latin.jsonl": (b'{"text": "\xe9"}\n', "line 1: not UTF-8"),
    "digits.jsonl": ('{"text": ' + "1" * 5000 + "}\n", "line 1"),
    "nothing.jsonl": ("\n\n", "no rows"),
    "number.jsonl": ("3\n", "line 1: expected an object"),
    "empty.parquet": (b"", "not a Parquet file"),
    "rows.xlsx": ("text\na\n", r"ends in \.csv, \.tsv, \.jsonl, \.parquet"),
    "rows.json": ("[]", r"ends in \.csv"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_its_row_and_nothing_is_written(name, settings, tmp_path):
    content, message = BAD_FILES[name]
    source = tmp_path / name
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(EdgewiseError, match=message):
        apply(settings(source, tmp_path / f"out{source.suffix}"), start_echo)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bad_parquet_files_are_refused(settings, tmp_path):
    text = pa.array(["a", "b"])
    nested = pa.array([{"text": "a"}, {"text": "b"}])
    for table, message in (
        (pa.table({"id": text}), "no column text"),
        (pa.table({"text": text, "deferred": text}), "has a column deferred already"),
        (pa.table([text, text], names=["text", "text"]), "two columns are named 'text'"),
        (pa.table({"text": text[:0]}), "no rows"),
        (pa.table({"text": pa.array([["a"], ["b"]])}), "2 of 2 rows can't be answered: row 1: text is a list"),
        (pa.table({"text": nested}), "row 1: text is a dict"),
        (pa.table({"text": pa.array([b"a", b"b"])}), "row 1: text is a bytes"),
        (pa.table({"text": pa.array([None, None], pa.string())}), "row 1: text is missing; row 2"),
        (pa.table({"text": pa.nulls(2)}), "row 1: text is missing"),
    ):
        pq.write_table(table, tmp_path / "in.parquet")
        with pytest.raises(EdgewiseError, match=message):
            apply(settings(tmp_path / "in.parquet", tmp_path / "out.parquet"), start_echo)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_odd_files_are_answered(settings, tmp_path):
    """What is unusual and can be read in one way only is no error."""
    for name, content, expected in (
        ("mark.jsonl", b'\xef\xbb\xbf{"text": "a"}\n', ["A"]),
        ("blank.jsonl", b'{"text": "a"}\n\n{"text": "b"}', ["A", "B"]),
        ("numbers.jsonl", b'{"text": 1.50}\n{"text": true}\n', ["1.5", "TRUE"]),
        ("lines.csv", b"text,n\r\na,1\r\n\r\nb,2\r\n", ["A", "B"]),
        ("one.csv", b"text\na b\n", ["A B"]),
        ("nul.csv", b"text\n" + b"a" * 70_000 + b"\0\n", ["A" * 70_000 + "\0"]),
        ("empty.csv", b'text,n\n"",1\n', [""]),
        ("quotes.tsv", b'text\tn\n"a\t1\n', ['"A']),
    ):
        source, output = tmp_path / name, tmp_path / f"out-{name}"
        source.write_bytes(content)
        apply(settings(source, output), start_echo)
        assert [row["prediction"] for row in read_rows(output)] == expected, name


@pytest.mark.parametrize("chunk_rows", [1, 8])
def test_rows_of_json_lines_may_leave_a_column_out_wherever_they_stand(settings, tmp_path, chunk_rows):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": 1}\n{"text": "a"}\n')
    assert apply(settings(source, output, chunk_rows=chunk_rows, bad_rows="keep"), start_echo).bad == 1
    assert [row["prediction"] for row in read_rows(output)] == ["", "A"]
    source.write_text('{"id": 1}\n{"id": 2}\n')
    with pytest.raises(EdgewiseError, match="no column text, which the switcher reads; it has id"):
        apply(settings(source, output, chunk_rows=chunk_rows, bad_rows="keep", force=True), start_echo)


def test_other_refusals(settings, tmp_path):
    source = write_rows(tmp_path / "in.csv", ["one"])
    for given, output, message in (
        (None, "o.csv", "apply.input is not set"),
        (source, None, "apply.output is not set"),
        (tmp_path / "none.csv", tmp_path / "o.csv", "no such file"),
        (tmp_path, tmp_path / "o.csv", "a folder"),
        (source, source, "is the input itself"),
        (source, tmp_path / "o.jsonl", r"ends in \.csv"),
        (f"{'n' * 300}.csv", tmp_path / "o.csv", r"apply\.input=n+\.csv: no such file"),
        (source, "~nobody-of-this-name/o.csv", r"apply\.output=~nobody.*: .*home directory\. Expected the name"),
    ):
        with pytest.raises(EdgewiseError, match=message):
            apply(settings(given, output), start_echo)
    (tmp_path / "link.csv").symlink_to(source)
    with pytest.raises(EdgewiseError, match="is the input itself"):
        apply(settings(source, tmp_path / "link.csv"), start_echo)
    with pytest.raises(EdgewiseError, match="the switcher reads text, not review"):
        apply(settings(source, tmp_path / "o.csv", columns={"text": "review"}), start_echo)


def test_bad_rows_may_be_kept_and_don_t_touch_their_neighbours(settings, tmp_path, capsys):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"text": "ab"}, {"text": None}, {"text": [1]}, {"text": 12.5, "x": "\ud800"}, {"id": 1}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = apply(settings(source, output, bad_rows="keep", chunk_rows=2), start_echo)
    assert (counts.rows, counts.bad) == (5, 3)
    assert (
        "3 of 5 rows stay without an answer: row 2: text is missing; row 3: text is a list" in capsys.readouterr().err
    )
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["prediction"] for row in written] == ["AB", None, None, "12.5", None]
    assert written[3]["x"] == "\ud800" and written[1]["deferred"] is None
    source = tmp_path / "in.parquet"
    texts = pa.array([b"ok", b"\xff\xfe", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), source)
    counts = apply(settings(source, tmp_path / "out.parquet", bad_rows="keep"), start_echo)
    assert counts.bad == 2


def test_a_file_of_any_length_is_held_a_chunk_at_a_time(tmp_path):
    """Python's own memory is the same for three times the rows."""
    peaks = []
    for n in (15_000, 45_000):  # both beyond the megabyte that is read at a time
        source = tmp_path / f"{n}.csv"
        source.write_text("id,text\n" + "".join(f"{i}," + f"some text of row {i} " * 5 + "\n" for i in range(n)))
        tracemalloc.start()
        rows = sum(len(chunk) for chunk in table_file(source, {"text": "text"}).chunks(2000))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert rows == n
    assert peaks[1] < 1.1 * peaks[0]


def test_a_signal_stops_it_between_two_batches_and_the_same_command_goes_on(settings, tmp_path, root):
    source = write_rows(tmp_path / "in.csv", ["one", "two", "three"])
    output = tmp_path / "out.csv"

    class Signalled(EchoEngine):
        def answer(self, columns, advance):
            if self.asked == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().answer(columns, advance)

    with pytest.raises(Stopped):
        apply(settings(source, output, chunk_rows=1), lambda found, config: Signalled(found.policy))
    assert max(Store(root).runs(job_type="apply"), key=lambda run: run.started).state == "stopped"
    assert len(list((tmp_path / ".out.csv.parts").glob("*.part"))) == 1
    assert apply(settings(source, output, chunk_rows=1), start_echo).rows == 3


class SlowEngine(EchoEngine):
    """Takes its time, so that a kill comes in the midst of it."""

    def answer(self, columns, advance):
        time.sleep(0.01)
        return super().answer(columns, advance)


def test_killed_at_any_moment_the_same_command_ends_with_the_same_bytes(settings, tmp_path):
    source = write_rows(tmp_path / "in.csv", [f"text {'x' * (i % 7)}" for i in range(300)])
    whole, output = tmp_path / "whole.csv", tmp_path / "out.csv"
    apply(settings(source, whole, chunk_rows=10), start_echo)
    rng = random.Random(0)
    killed = 0
    for _ in range(20):
        child = multiprocessing.get_context("fork").Process(
            target=apply,
            args=(settings(source, output, chunk_rows=10), lambda found, config: SlowEngine(found.policy)),
        )
        child.start()
        time.sleep(rng.uniform(0, 0.25))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        if child.exitcode == 0:
            assert output.read_bytes() == whole.read_bytes()
            output.unlink()
    assert killed > 5
    apply(settings(source, output, chunk_rows=10), start_echo)
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv", "whole.csv"]
