"""A dataset's config as a YAML file: it reads back as what was written, and is found by the dataset's name."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from conf.app import CONF, to_config
from conf.dataset_file import configs_of_store, dataset_yaml, file_of_dataset, store_of, with_named_dataset
from conf.schema import Dataset, Recipe
from conf.yaml_checks import check_yaml
from tests.support import REPO
from train.data.remember import remember_dataset

OWN = Dataset(
    name="own",
    path="/data/a folder",
    classes={"0": "no", "007": "yes: \"quoted\", 'too'", "x": "${size.name} ünï\u2028 \U0001f600", "~": "null"},
    template="{text} # {kind}",
    columns={" label": "label", "on": "text"},
    drop_labels=["-1", ""],
    separator=";",
    test_share=0.25,
    split_seed=7,
    recipe=Recipe(steps=40, learning_rate=0.01),
)


def read_back(folder: Path, dataset: Dataset) -> Dataset:
    """What a command composes from the dataset's file in a store's folder of configs."""
    remember_dataset(dataset, folder)
    with initialize_config_dir(CONF, version_base="1.3"):
        path = f"hydra.searchpath=[file://{configs_of_store(folder)}]"
        return to_config(hydra_compose("config", [path, f"dataset={dataset.name}"])).dataset


def test_what_is_written_is_what_is_read(tmp_path) -> None:
    assert read_back(tmp_path, OWN) == OWN
    headerless = Dataset(name="o2", path="/x", columns=["text", "label"], classes={"a": "a", "b": "b"})
    assert read_back(tmp_path, headerless) == headerless
    spans = Dataset(name="o3", task="span_qa", hub_id="a/b", label_column="answers", template="{question}")
    assert read_back(tmp_path, spans) == spans


@given(st.text(min_size=1), st.text() | st.text("\\${}:a"))
def test_any_text_is_text_in_the_file(label: str, target: str) -> None:
    text = dataset_yaml(Dataset(name="own", classes={label: target}), "a comment")
    check_yaml("own.yaml", text)
    read = OmegaConf.to_container(OmegaConf.create(yaml.safe_load(text)), resolve=True)
    assert isinstance(read, dict)
    [(key, value)] = read["classes"].items()
    assert (key, value) == (label, target)


def test_the_path_is_absolute_and_the_project_s_own_are_not_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    remember_dataset(Dataset(name="own", path="data"), Path("runs"))
    file = tmp_path / "runs/conf/dataset/own.yaml"
    assert file_of_dataset("own", "runs") == file and f'path: "{tmp_path}/data"' in file.read_text()
    remember_dataset(Dataset(name="imdb", path="data"), Path("runs"))
    assert [path.name for path in file.parent.iterdir()] == ["own.yaml"]
    assert file_of_dataset("imdb", "runs") == Path(CONF) / "dataset/imdb.yaml"
    assert file_of_dataset("other", "runs") is None and file_of_dataset("../dataset/own", "runs") is None


@pytest.fixture
def store(tmp_path) -> Path:
    remember_dataset(OWN, tmp_path / "runs")
    return tmp_path / "runs"


def test_a_name_alone_finds_the_dataset_and_says_what_it_took(store, capsys) -> None:
    root = f"tracking.root={store}"
    given = ["dataset.name=own", root, "dataset.separator=tab", "size=nano"]
    assert with_named_dataset(given) == [*given, "dataset=own"]
    said = capsys.readouterr().err
    assert said.startswith("note: dataset own: ") and said.endswith(f" from {store}/conf/dataset/own.yaml\n")
    assert "classes" in said and "template" in said and "separator" not in said and "recipe" not in said


def test_a_command_finds_the_dataset_in_the_store(store) -> None:
    given = ["-m", "dataset.name=own", "size=nano", "seed=0,1", "sweeps.list=true", f"tracking.root={store}"]
    listed = subprocess.run([sys.executable, "-m", "sweeps", *given], cwd=REPO, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    assert "note: dataset own: " in listed.stderr
    [row] = [line for line in listed.stdout.splitlines() if " own " in line]
    assert " 0 1 " in row and " 40 " in row  # the seeds, and the steps of the recipe


@pytest.mark.parametrize(
    "more",
    [
        ["dataset=text_classification"],
        ["experiment=sst2_scratch"],
        ["sweep=paper"],
        ["--config-name", "mine"],
        ["dataset.name=unknown"],
    ],
)
def test_what_the_command_line_chooses_stays(store, capsys, more: list[str]) -> None:
    given = ["dataset.name=own", f"tracking.root={store}", *more]
    assert with_named_dataset(given) == given
    assert with_named_dataset(["seed=1"]) == ["seed=1"]
    assert capsys.readouterr().err == ""


def test_a_damaged_file_is_left_to_hydra(store) -> None:
    (store / "conf/dataset/own.yaml").write_text("name: [")
    given = ["dataset.name=own", f"tracking.root={store}"]
    assert with_named_dataset(given) == [*given, "dataset=own"]


def test_the_store_of_a_command_line() -> None:
    assert store_of(["seed=1"]) == "runs"
    assert store_of(["tracking.root=a", 'tracking.root="b c"']) == "b c"
