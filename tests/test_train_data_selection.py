"""The paper's classification datasets from files: joined, drawn, left out and counted, as their configs say."""

import json
import random
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conf.errors import EdgewiseError
from conf.schema import Dataset
from tests.support import REPO
from train.data.notices import print_once
from train.data.source import Source
from train.data.splits import Split, load_split


def dataset(config: str, path: Path, **changes) -> Dataset:
    values = OmegaConf.load(REPO / f"conf/dataset/{config}.yaml")
    merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Dataset), values, {"path": str(path), **changes}))
    assert isinstance(merged, Dataset)
    merged.check()
    print_once.cache_clear()
    return merged


def pairs(split: Split) -> list[tuple[str, str, str]]:
    return list(zip(split.example_id, split.inputs, split.targets, strict=True))


# --- wiki_toxicity ----------------------------------------------------------------------------------------------------


def jigsaw(folder: Path) -> Path:
    (folder / "train.csv").write_text('id,comment_text,toxic\na,"one, two",0\nb,three,1\n')
    (folder / "test.csv").write_text(",id,comment_text\n0,c,four\n1,d,five\n2,e,six\n3,f,seven\n")
    (folder / "test_labels.csv").write_text("id,toxic\nf,1\nd,0\nc,-1\n")
    return folder


def test_jigsaws_test_rows_are_joined_with_their_labels(tmp_path, capsys) -> None:
    toxicity = dataset("wiki_toxicity", jigsaw(tmp_path))
    assert pairs(load_split(toxicity, "train")) == [("train-0", "one, two", "not toxic"), ("train-1", "three", "toxic")]
    test = load_split(toxicity, "test")
    assert pairs(test) == [("test-1", "five", "not toxic"), ("test-3", "seven", "toxic")]
    assert test.skipped == {"no label": 1, "label -1": 1}
    said = capsys.readouterr().err
    assert "wiki_toxicity test: 2 rows left out (no label: 1, label -1: 1), 2 kept" in said
    assert "note: wiki_toxicity test: 2 rows, 63,976 fewer than the paper's 63,978 (from dataset.path)" in said
    assert "warning" not in said
    record = Source(toxicity).provenance
    assert record["test_labels"]["file"] == "test_labels.csv" and len(record["test_labels"]["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(record)


def test_the_labels_and_the_rule_are_part_of_the_source(tmp_path) -> None:
    before = Source(dataset("wiki_toxicity", jigsaw(tmp_path))).digest
    assert Source(dataset("wiki_toxicity", tmp_path, drop_labels=[])).digest != before
    (tmp_path / "test_labels.csv").write_text("id,toxic\nf,0\nd,0\nc,-1\n")
    assert Source(dataset("wiki_toxicity", tmp_path)).digest != before


def test_the_original_files_have_names_of_their_own(tmp_path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"wikidata_{split}.csv").write_text(f"id,comment_text,toxic\n1,{split} text,1\n")
    toxicity = dataset("wiki_toxicity", tmp_path)
    assert Source(toxicity).names == ["train", "test"]
    assert pairs(load_split(toxicity, "test")) == [("test-0", "test text", "toxic")]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("id,toxic\nc,1\nc,0\n", r"test_labels\.csv: two rows have the same id 'c'"),
        ("id,toxic\nx,1\n", r"none of its 4 rows has a label in .*test_labels\.csv; the two are joined on id"),
        ("id,toxic\nc,-1\nd,-1\n", r"every row is left out \(no label: 2, label -1: 2\)"),
        ("key,toxic\nc,1\n", r"test_labels\.csv: no column id; found key, toxic"),
        ("id,toxic\nd,2\n", r"test\.csv: row 2: toxic is '2', expected one of '0', '1'"),
        (None, r"test\.csv: no column toxic.*put the labels beside it, in a SPLIT_labels file with id"),
    ],
)
def test_labels_that_don_t_fit_are_said(tmp_path, labels: str | None, said: str) -> None:
    jigsaw(tmp_path)
    (tmp_path / "test_labels.csv").unlink()
    if labels is not None:
        (tmp_path / "test_labels.csv").write_text(labels)
    with pytest.raises(EdgewiseError, match=said):
        load_split(dataset("wiki_toxicity", tmp_path), "test")


# --- amazon_video_games -----------------------------------------------------------------------------------------------

REVIEWS = [(str(1 + i % 5), f'game {i} is "so so') for i in range(90)] + [("5", "great")] * 10


def tsv(folder: Path, rows: list[tuple[str, str]], name: str = "amazon_reviews_us_Video_Games_v1_00.tsv") -> Path:
    lines = [f"US\t{stars}\t{body}" for stars, body in rows]
    (folder / name).write_text("\n".join(["marketplace\tstar_rating\treview_body", *lines, ""]))
    return folder


def test_one_file_is_drawn_into_two(tmp_path) -> None:
    games = dataset("amazon_video_games", tsv(tmp_path, REVIEWS))
    assert Source(games).names == ["train", "test"]
    assert "split_by" not in Source(games).provenance  # by row, as before there was a choice: the digest is the same
    train, test = load_split(games, "train"), load_split(games, "test")
    assert (len(train), len(test)) == (80, 20)
    both = [(target, text) for split in (train, test) for _, text, target in pairs(split)]
    assert sorted(both) == sorted(REVIEWS)
    assert test.example_id == [f"test-{i}" for i in range(20)]
    # The file itself does as well as its folder; there is no validation split.
    assert load_split(dataset("amazon_video_games", next(tmp_path.iterdir())), "test") == test
    with pytest.raises(EdgewiseError, match="validation"):
        load_split(games, "validation")


def test_the_draw_is_by_seed_and_not_by_the_order_of_rows(tmp_path) -> None:
    games = dataset("amazon_video_games", tsv(tmp_path, REVIEWS))
    splits = [load_split(games, split) for split in ("train", "test")]
    other = dataset("amazon_video_games", tmp_path, split_seed=1)
    assert load_split(other, "test").inputs != splits[1].inputs
    assert Source(other).digest != Source(games).digest
    shuffled = REVIEWS.copy()
    random.Random(0).shuffle(shuffled)
    tsv(tmp_path, shuffled)
    assert [load_split(games, split) for split in ("train", "test")] == splits


def test_the_stand_ins_columns_and_stars_read_as_the_originals(tmp_path) -> None:
    rows = "".join(json.dumps({"rating": float(stars), "text": text, "title": ""}) + "\n" for stars, text in REVIEWS)
    (tmp_path / "Video_Games.jsonl").write_text(rows)
    drawn = load_split(dataset("amazon_video_games", tmp_path), "test")
    assert set(drawn.targets) <= {"1", "2", "3", "4", "5"} and len(drawn) == 20


def test_train_and_test_files_are_not_drawn_again(tmp_path) -> None:
    tsv(tmp_path, REVIEWS[:7], "train.tsv")
    tsv(tmp_path, REVIEWS[7:9], "test.tsv")
    games = dataset("amazon_video_games", tmp_path)
    assert pairs(load_split(games, "test"))[0] == ("test-0", 'game 7 is "so so', "3")
    assert len(load_split(games, "train")) == 7


def test_too_few_rows_to_draw_are_said(tmp_path) -> None:
    games = dataset("amazon_video_games", tsv(tmp_path, REVIEWS[:2]))
    with pytest.raises(EdgewiseError, match=r"dataset\.test_share=0\.2: none of 2 rows is left for test"):
        load_split(games, "test")


# --- yahoo_answers, imdb and one's own --------------------------------------------------------------------------------


def test_empty_fields_of_an_answer_are_empty_text(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("topic,question_title,question_content,best_answer\n4,why,,because\n0,,,\n")
    topics = dataset("yahoo_answers", tmp_path)
    assert [(text, target) for _, text, target in pairs(load_split(topics, "train"))] == [
        ("why  because", "Computers & Internet"),
        ("  ", "Society & Culture"),
    ]


def test_the_papers_counts_are_silent_where_they_hold(tmp_path, capsys) -> None:
    (tmp_path / "train.csv").write_text("text,label\n" + "fine,1\n" * 3)
    load_split(dataset("imdb", tmp_path, expected_rows={"train": 3}), "train")
    assert capsys.readouterr().err == ""
    load_split(dataset("imdb", tmp_path, expected_rows={"train": 2}), "train")
    assert "note: imdb train: 3 rows, 1 more than the paper's 2" in capsys.readouterr().err


def test_columns_of_other_names_are_renamed(tmp_path) -> None:
    (tmp_path / "train.csv").write_text("review,sentiment,label\nfine,positive,7\n")
    changes = {"columns": {"review": "text", "sentiment": "gold"}, "label_column": "gold"}
    own = dataset("text_classification", tmp_path, name="own", classes={"negative": "n", "positive": "p"}, **changes)
    assert pairs(load_split(own, "train")) == [("train-0", "fine", "p")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test_share": 1.0}, r"dataset\.test_share=1\.0"),
        ({"drop_labels": -1}, r"dataset\.drop_labels=-1: expected a list"),
        ({"expected_rows": 25000}, r"dataset\.expected_rows=25000: expected a mapping"),
        ({"columns": ["a"]}, r"dataset\.columns=.*expected a mapping"),
    ],
)
def test_settings_of_the_wrong_kind_are_said(tmp_path, changes: dict, said: str) -> None:
    with pytest.raises(EdgewiseError, match=said):
        dataset("text_classification", tmp_path, name="own", classes={0: "a", 1: "b"}, **changes)
