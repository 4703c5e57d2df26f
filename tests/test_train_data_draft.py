"""What `python -m conf.init` sees in a person's files, and the YAML that it writes of it."""

import json
from pathlib import Path

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from conf.app import CONF, to_config
from conf.errors import EdgewiseError
from conf.init.__main__ import main
from conf.schema import Dataset, Tokenizer
from train.data.draft import draft
from train.data.splits import load_split
from train.data.tokens import check_targets, get_vocabulary

TEXTS = [f"a review of some length and the number {i}" for i in range(40)]


def write(file: Path, header: str | None, rows: list[str]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*([] if header is None else [header]), *rows, ""]))
    return file


def test_one_file_with_semicolons(tmp_path) -> None:
    rows = [f'{i};"{text}";{("neg", "pos")[i % 2]}' for i, text in enumerate(TEXTS)]
    file = write(tmp_path / "my reviews.csv", "id;review;verdict", rows)
    drafted = draft(file)
    made = drafted.dataset
    assert (made.name, made.path, made.separator, made.test_share) == ("my_reviews", str(file), ";", 0.2)
    assert (made.template, made.label_column) == ("{review}", "verdict")
    assert made.classes == {"neg": "neg", "pos": "pos"} and made.max_input_length == 64
    said = "\n".join(drafted.seen)
    assert "my reviews.csv: a semicolon separates its values" in said
    assert "my reviews.csv: 40 rows, columns id, review, verdict" in said
    assert "label: verdict, 2 classes: 'neg' 20, 'pos' 20" in said and "no test file: 20% of the rows" in said


def test_a_folder_with_splits_has_the_classes_of_all(tmp_path) -> None:
    for split, labels in (("train", "12"), ("val", "2"), ("test", "10 2")):
        values = labels.split() if " " in labels else list(labels)
        write(
            tmp_path / f"{split}.csv", "stars,text,title", [f"{value},{text},x" for text in TEXTS for value in values]
        )
    made = draft(tmp_path, name="shop").dataset
    assert made.classes is not None and list(made.classes) == ["1", "2", "10"]
    assert (made.label_column, made.test_share, made.separator) == ("stars", None, None)


def test_many_classes_are_seen_more_often_and_keep_their_rare_words(tmp_path) -> None:
    recipes = {}
    for classes in (4, 40):
        rows = [f"text number {i};class {i % classes}" for i in range(6400)]
        recipes[classes] = draft(write(tmp_path / str(classes) / "all.csv", "text;label", rows)).dataset.recipe
    assert recipes[40].steps == 2 * recipes[4].steps
    assert recipes[4].min_token_count > recipes[40].min_token_count == 1


def test_the_vocabulary_is_of_words_where_they_come_back(tmp_path) -> None:
    english = [f"{text} {mark}" for text in TEXTS for mark in "!?"]
    chinese = [
        f"{who}{what}{why}。" for who in "我你他" for what in ("很喜欢电影", "不看", "看了") for why in "吗吧呢啊"
    ]
    made = {}
    for name, texts in {"english": english, "chinese": chinese}.items():
        rows = [f"{text},{'ab'[i % 2]}" for i, text in enumerate(texts)]
        made[name] = draft(write(tmp_path / f"{name}.csv", "text,label", rows)).dataset.recipe
    assert [recipe.model_type for recipe in made.values()] == ["word", "bpe"]
    assert made["chinese"].min_token_count > made["english"].min_token_count > 1


def test_capital_letters_are_kept_where_labels_differ_by_them(tmp_path) -> None:
    for labels in (("it", "IT"), ("it", "us")):
        rows = [f"{text}\t{labels[i % 2]}" for i, text in enumerate(TEXTS)]
        file = write(tmp_path / f"{labels[1]}.tsv", "text\tlabel", rows)
        assert draft(file).dataset.recipe.lower_case == (labels[1] == "us")


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_file_without_a_header_row(tmp_path, ending: str) -> None:
    mark = ";" if ending == "csv" else "\t"
    rows = [f"{i}{mark}{'good' if i % 3 else 'bad'}{mark}{text}" for i, text in enumerate(TEXTS)]
    rows[3] += ", and more"
    file = write(tmp_path / f"rows.{ending}", None, rows)
    drafted = draft(file)
    assert drafted.dataset.columns == ["column_1", "label", "text"]
    assert len(load_split(drafted.dataset, "train")) + len(load_split(drafted.dataset, "test")) == 40
    assert any("no header row, so its columns are called column_1, label, text" in line for line in drafted.seen)


def test_names_that_pandas_gives_are_a_header_row(tmp_path) -> None:
    file = write(tmp_path / "rows.csv", "0,1", [f'"{text}",{i % 2}' for i, text in enumerate(TEXTS)])
    made = draft(file).dataset
    assert made.columns == {"0": "text"} and made.label_column == "1" and made.template == "{text}"


@pytest.mark.parametrize(
    ("rows", "named", "message"),
    [
        ([], {}, "no rows, only a header; expected a row"),
        (
            [f"{text},{i % 2},{i}" for i, text in enumerate(TEXTS)],
            {"text": "kind", "label": "kind"},
            "is the label too",
        ),
        (
            [f"{text},{i % 2},{i}" for i, text in enumerate(TEXTS)],
            {"label": "n"},
            "40 distinct values in it; expected 2",
        ),
        ([f"{text},same,{i}" for i, text in enumerate(TEXTS)], {"label": "kind"}, "one value alone in it; expected 2"),
        (
            [f"text {i},{i % 2},{i}" for i in range(1200)],
            {"label": "n"},
            "more than 500 distinct values in it; expected",
        ),
        (["one text,a,1", "another,b,2"], {"label": "kind"}, "(?i)give more rows"),
    ],
)
def test_what_no_classification_can_be_made_of_is_one_short_line(rows, named, message, tmp_path) -> None:
    file = write(tmp_path / "rows.csv", "body,kind,n", rows)
    with pytest.raises(EdgewiseError, match=message) as error:
        draft(file, **named)
    assert len(str(error.value)) < 300


def test_a_class_that_no_training_row_has_can_be_said_all_the_same(tmp_path) -> None:
    write(tmp_path / "train.csv", "text,label", [f"{text},{'ab'[i % 2]}" for i, text in enumerate(TEXTS)])
    write(tmp_path / "test.csv", "text,label", [f"{TEXTS[0]},a", f"{TEXTS[1]},b", f"{TEXTS[2]},New Class"])
    drafted = draft(tmp_path, name="mine").dataset
    tokenizer = Tokenizer(vocabulary_size=200, whole_labels=True, model_type="word")
    vocabulary = get_vocabulary(tokenizer, load_split(drafted, "train"), tmp_path, False, drafted.classes.values())
    check_targets(vocabulary, drafted.classes)
    assert len(list(tmp_path.glob("*.model"))) == 1
    get_vocabulary(tokenizer, load_split(drafted, "train"), tmp_path, False, ["a", "b"])
    assert len(list(tmp_path.glob("*.model"))) == 2  # another set of classes, another vocabulary


def test_missing_labels_are_left_out_of_rows_of_json_too(tmp_path) -> None:
    labels = ["a", "b", None] * 13 + ["a"]
    rows = [json.dumps({"text": text, "label": label}) for text, label in zip(TEXTS, labels, strict=True)]
    write(tmp_path / "train.jsonl", None, rows)
    write(tmp_path / "test.jsonl", None, ['{"text": "without a label"}', *rows[:6]])
    drafted = draft(tmp_path).dataset
    assert drafted.drop_labels == [""] and drafted.classes == {"a": "a", "b": "b"}
    assert len(load_split(drafted, "train")) == 27 and len(load_split(drafted, "test")) == 4
    write(tmp_path / "test.jsonl", None, ['{"text": "none has it"}'] * 3)
    with pytest.raises(EdgewiseError, match="no column label; found text"):
        draft(tmp_path)


def test_missing_labels_are_left_out_and_columns_can_be_named(tmp_path) -> None:
    rows = [f'"{text}",{("a", "b", "")[i % 3]},{("x", "y")[i % 2]},{i}' for i, text in enumerate(TEXTS)]
    file = write(tmp_path / "rows.csv", "body,kind,other,n", rows)
    drafted = draft(file, label="kind", text="body")
    assert drafted.dataset.drop_labels == [""] and drafted.dataset.classes == {"a": "a", "b": "b"}
    assert "13 rows have no label and are left out" in drafted.seen
    assert draft(file).dataset.label_column == "kind"  # the first of two with two values
    assert any(line.startswith("--label COLUMN takes another label, such as other") for line in draft(file).seen)
    for changes, said in (({"label": "gone"}, r"--label gone: .* found body, kind"), ({"text": "no"}, "--text no: ")):
        with pytest.raises(EdgewiseError, match=said):
            draft(file, **changes)


def test_questions_and_sentence_pairs_are_known_by_their_columns(tmp_path) -> None:
    line = '{{"id": "{i}", "question": "why {i}", "context": "so", "answers": {{"text": ["so"]}}}}'
    write(tmp_path / "qa/train.jsonl", None, [line.format(i=i) for i in range(5)])
    write(tmp_path / "qa/test.jsonl", None, [line.format(i=i) for i in range(3)])
    made = draft(tmp_path / "qa").dataset
    assert made.task == "span_qa" and load_split(made, "test").targets == ["so"] * 3
    pair = '{{"source": "ein Satz {i}", "target": "a sentence {i}"}}'
    write(tmp_path / "pairs/train.jsonl", None, [pair.format(i=i) for i in range(600)])
    made = draft(tmp_path / "pairs").dataset
    assert made.task == "translation" and made.test_share == 0.2


def test_a_translation_as_the_hub_has_it_is_known_by_its_two_languages(tmp_path, capsys) -> None:
    pair = '{{"translation": {{"en": "a sentence {i}", "de": "ein Satz {i}"}}, "id": {i}}}'
    write(tmp_path / "pairs/train.jsonl", None, [pair.format(i=i) for i in range(20)])
    write(tmp_path / "pairs/test.jsonl", None, [pair.format(i=i) for i in range(3)])
    made = draft(tmp_path / "pairs").dataset
    assert (made.task, made.label_column) == ("translation", "de")
    assert made.recipe.vocabulary_size > 1000 and made.recipe.learning_rate > 0.001  # T5X's are for pre-trained models
    split = load_split(made, "test")
    assert split.inputs[1] == "translate English to German: a sentence 1" and split.targets[1] == "ein Satz 1"
    for flags in ({"text": "de"}, {"label": "en"}, {"text": "de", "label": "en"}):
        back = draft(tmp_path / "pairs", **flags).dataset
        assert (back.template, back.label_column) == ("translate German to English: {de}", "en")
    with pytest.raises(EdgewiseError, match="--label fr: .* has no such column"):
        draft(tmp_path / "pairs", label="fr")
    # other languages than T5's own have no task of its pre-training
    write(tmp_path / "other/train.jsonl", None, [pair.replace("de", "pl").format(i=i) for i in range(20)])
    assert draft(tmp_path / "other").dataset.template == "{en}"
    out = tmp_path / "conf/dataset/pairs.yaml"
    assert main([str(tmp_path / "pairs"), "--out", str(out)]) == 0
    assert "size=micro,tiny 'seed=range(3)'" in capsys.readouterr().out
    assert "# recipe: for the sizes micro and tiny from scratch" in out.read_text()
    assert "classes" not in out.read_text()


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        (
            "text,number",
            [f"{text},{i}" for i, text in enumerate(TEXTS)],
            "no column could be the label",
        ),
        ("label", ["a", "b", "a", "b"], "no column of text beside label"),
        ("text,label", ["a,x", "b,y,z"], "row 2 has 3 values"),
        ("text,label", [], "no rows, only a header"),
    ],
)
def test_files_that_can_t_be_drafted(tmp_path, header: str, rows: list[str], said: str) -> None:
    with pytest.raises(EdgewiseError, match=said):
        draft(write(tmp_path / "rows.csv", header, rows))


def test_a_folder_without_rows(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(EdgewiseError, match=r"no file for the train split.*found notes\.txt"):
        draft(tmp_path)
    with pytest.raises(EdgewiseError, match="nowhere does not exist"):
        draft(tmp_path / "nowhere")
    with pytest.raises(EdgewiseError, match="--name=.*expected 1 to 64 letters"):
        draft(tmp_path, name="a/b")


def test_the_command_writes_a_file_that_composes(tmp_path, capsys) -> None:
    labels = ("no", "yes")
    write(tmp_path / "data/all.csv", "text\tlabel", [f"{text}\t{labels[i % 2]}" for i, text in enumerate(TEXTS)])
    out = tmp_path / "mine/dataset/own.yaml"
    assert main([str(tmp_path / "data"), "--name", "own", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "all.csv: a tab separates its values" in said and f"wrote {out}. Next:" in said
    assert (
        f"just sweep -m dataset=own size=words_s,words_m 'seed=range(3)' 'hydra.searchpath=[file://{tmp_path}/mine]'"
        in said
    )
    assert yaml.safe_load(out.read_text())["classes"] == {"no": "no", "yes": "yes"}
    with initialize_config_dir(CONF, version_base="1.3"):
        path = f"hydra.searchpath=[file://{tmp_path}/mine]"
        config = to_config(hydra_compose("config", [path, "dataset=own"]))
    assert isinstance(config.dataset, Dataset) and config.dataset.classes == {"no": "no", "yes": "yes"}
    recipe = config.dataset.recipe
    assert config.train.steps == recipe.steps == 600
    assert config.train.token_dropout == recipe.token_dropout > 0
    assert config.train.min_token_count == recipe.min_token_count > 1
    assert config.tokenizer.vocabulary_size == recipe.vocabulary_size == 8000
    assert config.tokenizer.lower_case and recipe.lower_case
    assert config.tokenizer.model_type == recipe.model_type == "word"
    optimizer = config.optimizer
    assert (optimizer.name, optimizer.b2, optimizer.weight_decay) == ("adamw", recipe.b2, recipe.weight_decay)
    before = out.read_text()
    assert main([str(tmp_path / "data"), "--name", "own", "--out", str(out)]) == 1
    assert "own.yaml is there already and is not replaced" in capsys.readouterr().err and out.read_text() == before
    assert main([str(tmp_path / "data"), "--out", "/dev/null/x.yaml"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
