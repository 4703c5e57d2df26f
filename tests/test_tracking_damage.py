"""Damaged rows of store.db: left out and named by every command, listed by verify, written anew by their run."""

import itertools
import json
import sqlite3

import pytest

from tracking.__main__ import main
from tracking.interface import ArtifactDraft, NotFound, TrackingError
from tracking.json_text import decode, encode
from tracking.lineage import as_json, lineage
from tracking.store import Store
from tracking.upkeep import verify


@pytest.fixture
def store(tmp_path):
    """Two models and, made of both, metrics that name them."""
    store = Store(tmp_path / "runs")

    def log(run, name, metadata=None):
        path = tmp_path / name
        path.write_text(name)
        return run.log_artifact(ArtifactDraft(name, name.partition("-")[0], metadata or {"a": 1}, {"file": path}))

    models = []
    for name in ("model-a", "model-b"):
        with store.start_run(f"train-{name}", job_type="train", config={"dataset": {"name": "demo"}}) as run:
            run.log({"loss": 0.5}, 0)
            run.log({"loss": 0.25}, 1)
            run.log_table("rows", ["a"], [[1]])
            models.append(log(run, name))
    with store.start_run("metrics", job_type="metrics", config={"dataset": {"name": "demo"}}) as run:
        for model in models:
            run.use_artifact(model)
        log(run, "metrics-demo", {"inputs": {model.name: model.digest for model in models}})
    assert verify(store).problems == []
    yield store
    store.close()


def damage(store, *statements):
    with sqlite3.connect(store.root / "store.db") as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount == 1
    connection.close()


def problems(store):
    return [(problem.artifact, problem.file, problem.problem) for problem in verify(store).problems]


NO_JSON, NO_UTF8 = "'{\"a\": '", "CAST(x'7b22ff' AS TEXT)"
RUN = "UPDATE runs SET {} WHERE id = 'train-model-a'"
DAMAGED_RUNS = [
    RUN.format(f"config = {NO_JSON}"),
    RUN.format(f"config = {NO_UTF8}"),
    RUN.format('config = \'{"dataset": {"name": "other"}}\''),
    RUN.format("config = '[1]'"),
    RUN.format("summary = x'00'"),
    RUN.format(f"tags = '{'[' * 100_000}'"),
    RUN.format("started = 'yesterday'"),
    RUN.format("state = 'running'"),
    RUN.format("checksum = NULL"),
]


@pytest.mark.parametrize("statement", DAMAGED_RUNS, ids=range(len(DAMAGED_RUNS)))
def test_a_damaged_run_is_left_out_named_and_written_anew(store, statement, capsys):
    damage(store, statement)
    assert store.run("train-model-a") is None
    assert [record.id for record in store.runs()] == ["train-model-b", "metrics"]
    assert "warning" in (said := capsys.readouterr().err) and "run train-model-a is damaged" in said
    assert said.count("\n") == 1  # once a process
    assert [run.id for run in store.logged_by(store.artifact("model-b"))] == ["train-model-b"]
    assert store.logged_by(store.artifact("model-a")) == []
    assert "runs: the row of id train-model-a" in problems(store)[0][2]
    for command in (
        ["ls"],
        ["ls", "--runs", "--json"],
        ["query", "--json"],
        ["lineage", "model-a"],
        ["show", "model-a"],
    ):
        assert main([*command, "--root", str(store.root)]) == 0
    assert main(["verify", "--root", str(store.root)]) == 1
    with store.start_run("train-model-a", job_type="train", config={"dataset": {"name": "demo"}}) as run:
        run.log({"loss": 0.5}, 0)
    assert store.run("train-model-a").state == "finished" and problems(store) == []


@pytest.mark.parametrize("value", [NO_JSON, NO_UTF8, "'{\"a\": 2}'", "'[]'"])
def test_a_damaged_version_is_left_out_named_and_written_anew(store, value, tmp_path, capsys):
    damage(store, f"UPDATE versions SET metadata = {value} WHERE name = 'model-a'")
    assert [artifact.name for artifact in store.versions()] == ["metrics-demo", "model-b"]
    assert "artifact model-a:v0 is damaged" in capsys.readouterr().err
    with pytest.raises(TrackingError, match="'model-a': its row .* was altered; restore the file"):
        store.artifact("model-a")
    assert [used.name for used in store.inputs("metrics")] == ["model-b"]
    assert ("model-a:v0", None) in [problem[:2] for problem in problems(store)]
    as_json(lineage(store, "metrics-demo"))
    with store.start_run("train-model-a", job_type="train", config={}) as run:
        again = run.log_artifact(ArtifactDraft("model-a", "model", {"a": 1}, {"file": tmp_path / "model-a"}))
    assert again.version == 0 and again.metadata == {"a": 1} and problems(store) == []


def test_a_damaged_point_table_and_alias_are_left_out_and_named(store, capsys):
    damage(
        store,
        "UPDATE history SET point = '{\"loss\": 7}' WHERE run = 'train-model-a' AND step = 0",
        f"UPDATE media SET content = {NO_JSON} WHERE run = 'train-model-a'",
        "UPDATE aliases SET artifact = (SELECT id FROM versions WHERE name = 'model-b') WHERE name = 'model-a'",
    )
    assert store.history("train-model-a") == [{"step": 1, "loss": 0.25}] and store.media("train-model-a") == []
    with pytest.raises(NotFound):  # never another version than the one that has the alias
        store.artifact("model-a")
    assert store.artifact("model-a:v0").aliases == [] and store.artifact("model-b").aliases == ["latest"]
    said = capsys.readouterr().err
    assert "step 0 of run train-model-a" in said and "table rows of run train-model-a" in said
    named = " ".join(text for _, _, text in problems(store))
    assert all(table in named for table in ("history: the row of", "media: the row of", "aliases: the row of"))


def test_a_lost_edge_is_named_by_its_run_and_by_the_artifact_that_names_its_inputs(store):
    digest = store.artifact("model-a").digest
    damage(
        store,
        f"DELETE FROM edges WHERE kind = 'used' AND artifact = (SELECT id FROM versions WHERE digest = '{digest}')",
    )
    assert [(artifact, text[:12]) for artifact, _, text in problems(store)] == [
        (None, "run metrics:"), ("metrics-demo:v0", "its metadata")
    ]  # fmt: skip
    with store.start_run("metrics", job_type="metrics", config={}, restart=True) as run:  # a restart counts anew
        for artifact in store.versions("model-*"):
            run.use_artifact(artifact)
        run.log_artifact(ArtifactDraft("metrics-demo", "metrics", {}, {"file": store.root.parent / "metrics-demo"}))
    assert problems(store) == []


def test_an_edge_of_a_version_that_is_gone_is_named(store):
    damage(store, "DELETE FROM versions WHERE name = 'model-b'")
    assert any("refers to a row of versions that is gone" in text for _, _, text in problems(store))
    assert [used.name for used in store.inputs("metrics")] == ["model-a"]


def test_verify_reports_whatever_is_altered_and_never_raises(store, tmp_path):
    """Every column of every table in turn gets what does not belong there."""
    store.close()
    content = (store.root / "store.db").read_bytes()
    with sqlite3.connect(store.root / "store.db") as connection:
        tables = ("runs", "history", "collections", "versions", "files", "aliases", "edges", "media")
        columns = {t: [row[1] for row in connection.execute(f"PRAGMA table_info({t})")] for t in tables}
    connection.close()
    unguarded = {("runs", "heartbeat"), ("runs", "process")}
    tried = 0
    for table, value in itertools.product(tables, ("x'ff00'", '\'{"$float": "evil"}\'', "17")):
        for column in columns[table]:
            if (table, column) in unguarded:
                continue
            (store.root / "store.db").write_bytes(content)
            with sqlite3.connect(store.root / "store.db") as connection:
                key = "(SELECT min(rowid) FROM " + table + ")"
                where = f"rowid = {key}" if table in ("runs", "collections", "versions", "edges") else "1"
                try:
                    done = connection.execute(f"UPDATE OR IGNORE {table} SET {column} = {value} WHERE {where}").rowcount
                except sqlite3.IntegrityError:  # a column that can't hold it
                    done = 0
            connection.close()
            if done:
                tried += 1
                damaged = Store(store.root)
                assert verify(damaged).problems, (table, column, value)
                assert isinstance(damaged.runs() + damaged.versions(), list)
                damaged.close()
    assert tried > 80


def test_what_looks_like_a_tag_of_nan_is_kept_as_it_is(store):
    for value in ({"$float": "evil"}, {"$float": "nan"}, {"$$float": {"$float": 1}}, {"a": [{"$float": None}]}):
        assert decode(encode(value, "it")) == value
        assert json.loads(encode(value, "it"))
    assert decode('{"$float": "evil"}') == {"$float": "evil"}  # from an older store
    config = {"notes": {"$float": "evil"}}
    with store.start_run("evil", job_type="train", config=config):
        pass
    assert store.run("evil").config == config and len(store.runs()) == 4


def test_a_store_of_the_former_schema_is_read_as_it_is_and_upgraded_by_the_first_write(store):
    before = [(record.id, record.config) for record in store.runs()], [a.ref for a in store.versions()]
    store.close()
    with sqlite3.connect(store.root / "store.db") as connection:
        for table in ("runs", "history", "collections", "versions", "files", "aliases", "edges", "media"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        for column in ("edges", "process"):
            connection.execute(f"ALTER TABLE runs DROP COLUMN {column}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    reader = Store(store.root, create=False)
    assert ([(record.id, record.config) for record in reader.runs()], [a.ref for a in reader.versions()]) == before
    assert verify(reader).problems == []
    writer = Store(store.root)
    with writer.start_run("more", job_type="train", config={}) as run:
        run.use_artifact("model-a")
    assert len(reader.runs()) == 4 and verify(reader).problems == []
    damage(store, RUN.format("config = '{}'"))
    assert len(reader.runs()) == 3 and len(verify(writer).problems) == 1
    reader.close()
    writer.close()
