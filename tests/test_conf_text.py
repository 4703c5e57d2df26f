"""Values that YAML or Hydra reads as something else than text are refused where text is due, with what to write."""

import subprocess
import sys

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from conf.app import CONF, to_config
from conf.errors import EdgewiseError
from conf.overrides import check_overrides
from conf.text import IN_YAML, checked_text, checked_texts, optional_text
from tests.support import REPO

OWN = """\
name: own
path: data
classes:
  0: {no}
  1: {yes}
"""


@pytest.fixture
def from_file(tmp_path):
    """A function: the content of conf/dataset/own.yaml, in a folder of the user's own -> the config."""

    def composed(content, *overrides):
        (tmp_path / "dataset").mkdir(exist_ok=True)
        (tmp_path / "dataset/own.yaml").write_text(f"defaults: [text_classification]\n{content}")
        with initialize_config_dir(CONF, version_base="1.3"):
            path = f"hydra.searchpath=[file://{tmp_path}]"
            return to_config(hydra_compose("config", [path, "dataset=own", *overrides]))

    return composed


@pytest.mark.parametrize(
    ("no", "yes", "said"),
    [
        ("no", "yes", r"dataset\.classes\.0 is the truth value false \(YAML reads no, off and false as one\)"),
        ('"no"', "on", r"dataset\.classes\.1 is the truth value true .*in YAML 1: \"yes\""),
        ("bad", "null", r"dataset\.classes\.1 is null"),
        ("bad", "~", r"dataset\.classes\.1 is null"),
        ("bad", "", r"dataset\.classes\.1 is null"),
        ("bad", "1.50", r"dataset\.classes\.1 is the number 1\.5 .*in YAML 1: \"1\.5\""),
        ("bad", ".nan", r"dataset\.classes\.1 is the number nan"),
        ("bad", "[good]", r"dataset\.classes\.1 is \['good'\], a list"),
        ("bad", "010", r"own\.yaml, line 6: YAML reads 010 as the number 8; write 8 .*or \"010\" in quotes"),
        ("bad", "1_000", "YAML reads 1_000 as the number 1000"),
        ("bad", "12:30", "YAML reads 12:30 as the number 750"),
    ],
)
def test_a_target_in_a_file_that_is_no_text(from_file, no, yes, said):
    with pytest.raises(Exception, match=said):
        from_file(OWN.format(no=no, yes=yes))


def test_targets_in_quotes_are_what_they_say(from_file):
    assert from_file(OWN.format(no='"no"', yes="'yes'")).dataset.classes == {"0": "no", "1": "yes"}
    assert from_file(OWN.format(no="3", yes='"010"')).dataset.classes == {"0": "3", "1": "010"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("classes: {no: bad, yes: good}", r'dataset\.classes has a key that is the truth value false.*"no": bad'),
        ("classes: {1.0: bad, 2.0: good}", r"dataset\.classes has a key that is the number 1\.0"),
        ("classes: {0: bad, 0: good}", "line 4: the key 0 is there twice, first in line 4"),
        ('classes: {0: bad, "0": good}', "the key 0 is there twice"),
        ("classes: {007: bad, 1: good}", "YAML reads 007 as the number 7"),
        ("label_column: off", r"dataset\.label_column is the truth value false .*in YAML label_column: \"no\""),
        ("label_column: 1.50", r"on the command line 'dataset\.label_column=\"1\.5\"'"),
        ("columns: {on: text}", r"dataset\.columns has a key that is the truth value true"),
        ("columns: {body: no}", r"dataset\.columns\.body is the truth value false"),
        ("hub_revision: 1.10", r"dataset\.hub_revision is the number 1\.1"),
        ("drop_labels: [no]", r"dataset\.drop_labels is the truth value false .*drop_labels: \[\"no\"\]"),
        ("recipe: {steps: 010}", "YAML reads 010 as the number 8"),
    ],
)
def test_a_label_or_a_column_that_is_no_text(from_file, content, said):
    classes = "" if content.startswith("classes") else "\nclasses: {0: bad, 1: good}"
    with pytest.raises(Exception, match=said):
        from_file(f"name: own\npath: data\n{content}{classes}")


def test_a_seed_in_a_file_is_not_read_as_octal(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [config, _self_]\nseed: 010\n")
    command = [sys.executable, "-m", "train", "--config-dir", str(tmp_path), "--config-name", "mine"]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "mine.yaml, line 2: YAML reads 010 as the number 8" in result.stderr


CLASSIFIES = ("dataset=text_classification", "dataset.name=own", "dataset.path=data")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset.classes={0: no, 1: true}", r"dataset\.classes\.1 is the truth value true .*={1: \"yes\", …}'"),
        ("dataset.classes={0: bad, 1: null}", r"dataset\.classes\.1 is null"),
        ("dataset.classes={0: bad, 1: 1.50}", r"dataset\.classes\.1 is the number 1\.5"),
        ("dataset.label_column=true", r"dataset\.label_column is the truth value true"),
        ("dataset.template=1.5", r"dataset\.template is the number 1\.5"),
        ("dataset.name=1.50", r"dataset\.name is the number 1\.5"),
        ("size.name=false", r"size\.name is the truth value false"),
        ("infer.split=null", r"infer\.split is null"),
    ],
)
def test_the_command_line_too(compose, override, said):
    with pytest.raises(EdgewiseError, match=said):
        compose(*CLASSIFIES, "dataset.classes={0: a, 1: b}", override)


def test_a_truth_value_is_no_key_on_the_command_line(compose):
    """Python takes true for 1, so that it would replace the class 1 of the dataset's file."""
    for key in ("true", "1.0", "null"):
        with pytest.raises(EdgewiseError, match=r"dataset\.classes has a key that is "):
            check_overrides([f"dataset.classes={{{key}: bad, 0: good}}"])
    check_overrides(["-m", "dataset.classes={1: bad, no: good}", "seed=range(3)", "--config-dir", "a=[b"])
    with pytest.raises(EdgewiseError, match=r"train\.init=a\^b: Hydra can't read it .*type 'train\.init=\"a\^b\"'$"):
        check_overrides(["train.init=a^b"])


def test_what_is_text_on_the_command_line(compose):
    config = compose(*CLASSIFIES, 'dataset.classes={0: no, 007: "true", x: 1}', "dataset.path=2024")
    assert config.dataset.classes == {"0": "no", "007": "true", "x": "1"}
    assert config.dataset.path == "2024" and config.dataset.hub_id is None


def test_texts():
    assert checked_text("key", "no") == "no" and checked_text("key", 10) == "10" and optional_text("key", None) is None
    assert checked_texts("class", {0: "a", "b": 1}) == {"0": "a", "b": "1"}
    with pytest.raises(EdgewiseError, match=r'^size is the number 1.5 .*Write it in quotes: in YAML size: "1.5"$'):
        checked_text("size", 1.5, IN_YAML)
    with pytest.raises(EdgewiseError, match="class has the key '1' twice, once as a number"):
        checked_texts("class", {1: "a", "1": "b"})
