"""What a sweep says of its data before the first cell, and what stops it there."""

import dataclasses
import subprocess
import sys

import pytest

from conf.errors import EdgewiseError
from sweeps.check import SAMPLE, check_data, check_line, print_check_lines, print_checks
from tests.support import REPO
from tests.training import SMALL


def rows(split, count, labels="01"):
    return [f"{split} thing {i} is {'good' if i % 2 else 'bad'},{labels[i % len(labels)]}" for i in range(count)]


def write_data(folder, **splits):
    folder.mkdir(parents=True, exist_ok=True)
    for split, lines in splits.items():
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    return folder


@pytest.fixture
def cells(compose, tmp_path):
    """A function: a folder of data, overrides -> the configs of two seeds of a cell on it."""

    def make(folder, *overrides, name="mine"):
        config = compose(
            *SMALL,
            "dataset=text_classification",
            f"dataset.path={folder}",
            f"dataset.name={name}",
            'dataset.classes={0: "no", 1: "yes"}',
            f"tracking.root={tmp_path}/runs",
            *overrides,
        )
        return [dataclasses.replace(config, seed=seed) for seed in (0, 1)]

    return make


def test_a_line_says_what_a_dataset_holds(cells, tmp_path, capsys):
    test = [*rows("test", 30, labels="1"), *rows("train", 2), ",0"]
    long = "long " * 100
    folder = write_data(tmp_path / "data", train=[*rows("train", 60), f"{long},1"], test=test)
    [check] = check_data(cells(folder, "dataset.max_input_length=16"))
    assert check.survey.splits["test"].in_train == 2 and check.survey.splits["test"].empty == 1
    assert check.tokens["train"].cut > 0 and check.tokens["train"].looked_at == 61
    line = check_line(check)
    assert line.startswith(
        "mine: 2 of 2 cells to do; rows: train 61, test 33; always 'yes' is right in 93.9 % of test; "
    )
    assert "of a split's inputs are cut at 16 tokens" in line and "evenly spread" not in line
    print_check_lines([check])
    said = capsys.readouterr()
    beat = (
        f"mine: a run should beat {100 * check.baseline.accuracy:.1f} % of test, what TF-IDF with logistic regression "
    )
    assert said.out == f"{line}\n{beat}reaches from the 61 training rows\n"
    assert "the text of 2 of 33 rows is in train too" in said.err and "1 of 33 rows have no text" in said.err
    assert "training evaluates on test, because there is no validation split: don't choose by it" in said.err


def test_a_large_split_is_sampled_and_its_kept_encoding_is_not(cells, tmp_path):
    from train.data.encodings import encode_split
    from train.data.source import source_of
    from train.data.tokens import get_vocabulary

    count = SAMPLE + 100
    folder = write_data(tmp_path / "data", train=rows("train", count), test=rows("test", 10))
    configs = cells(folder)
    [check] = check_data(configs)
    assert (check.tokens["train"].rows, check.tokens["train"].looked_at) == (count, SAMPLE)
    assert check.tokens["test"].looked_at == 10
    assert check_line(check).endswith(f"(of {SAMPLE:,} rows of train, evenly spread)")
    root, config = tmp_path / "runs", configs[0]
    split = source_of(config.dataset).split("train")
    vocabulary = get_vocabulary(config.tokenizer, split, root / "tokenizers")
    encode_split(vocabulary, split, config.dataset.max_input_length, root / "encodings")
    [again] = check_data(configs)
    assert again.tokens["train"].looked_at == count


def test_characters_without_a_piece_are_counted(cells, tmp_path):
    strange = [f"{chr(0x4E00 + i)}{chr(0x5E00 + i)},{i % 2}" for i in range(40)]
    folder = write_data(tmp_path / "data", train=rows("train", 200), test=strange)
    [check] = check_data(cells(folder))
    assert check.tokens["train"].unknown == 0 < check.tokens["test"].unknown
    assert "of its tokens are <unk>" in check_line(check)


@pytest.mark.parametrize(
    ("data", "overrides", "said"),
    [
        ({"train": rows("train", 9), "test": rows("test", 9, labels="2")}, (), "label"),
        ({"train": rows("train", 9, labels="1"), "test": rows("test", 9)}, (), "all 9 rows have the class 'yes'"),
        ({"train": rows("train", 9), "test": [",0", ",1"]}, (), "none of its 2 rows has any text"),
        ({"train": rows("train", 9)}, (), "test"),
        ({"train": rows("train", 9), "test": rows("test", 9)}, ("train.keep=best",), "no validation split"),
        ({"train": rows("train", 9), "test": rows("test", 9)}, ("tokenizer.vocabulary_size=3",), "vocabulary_size=3"),
    ],
)
def test_data_that_can_t_be_used_is_an_error(cells, tmp_path, data, overrides, said):
    with pytest.raises(EdgewiseError, match=said):
        check_data(cells(write_data(tmp_path / "data", **data), *overrides))


def test_the_errors_of_several_datasets_are_all_said(cells, tmp_path, capsys):
    bad = [cells(write_data(tmp_path / name, train=rows("train", 9)), name=name) for name in ("a", "b")]
    with pytest.raises(EdgewiseError, match=str(tmp_path / "a")):
        check_data([cell for configs in bad for cell in configs])
    err = capsys.readouterr().err
    assert err.startswith("error: ") and str(tmp_path / "b") in err and len(err.splitlines()) == 1


def test_a_dataset_whose_cells_are_done_is_not_read(cells, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sweeps.check.is_done", lambda cell: cell.seed == 0)
    folder = write_data(tmp_path / "data", train=rows("train", 9), test=rows("test", 9))
    [check] = check_data(cells(folder))
    assert check_line(check).startswith("mine: 1 of 2 cells to do; ")
    assert len(check_data(cells(folder, "force=true"))[0].to_do) == 2
    [check] = check_data(cells(tmp_path / "nowhere")[:1])
    print_checks([check])
    assert capsys.readouterr().out == "mine: nothing to do, 1 cell done\n"


def test_the_full_check_measures_a_step_and_says_how_long_the_grid_takes(compose, tmp_path, capsys):
    config = compose(*SMALL, "dataset.max_input_length=64", f"tracking.root={tmp_path}/runs")
    print_checks(check_data([dataclasses.replace(config, seed=seed) for seed in range(3)]))
    out = capsys.readouterr().out
    assert "demo: 3 of 3 cells to do" in out and "classes of validation: " in out
    assert "in train too" in out and "cut at 64" in out
    assert "about 0:00:0" in out and "for 3 cells one after the other, and 0:0" in out
    assert "an estimate for this machine" in out


def test_a_data_error_stops_the_sweep_once_before_its_first_cell(tmp_path):
    folder = write_data(tmp_path / "data", train=rows("train", 9), test=rows("test", 9, labels="2"))
    command = [sys.executable, "-m", "sweeps", "-m", *SMALL, "dataset=text_classification", f"dataset.path={folder}"]
    command += [
        "dataset.name=mine",
        'dataset.classes={0: "no", 1: "yes"}',
        "seed=range(4)",
        f"tracking.root={tmp_path}/r",
    ]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ") and "label" in line
    assert "Launching" not in result.stdout + result.stderr
    alone = [*command[:3], *(part for part in command[3:] if part not in ("-m", "seed=range(4)")), "sweeps.check=true"]
    result = subprocess.run(alone, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.splitlines() == [line], "a cell alone is checked too"
