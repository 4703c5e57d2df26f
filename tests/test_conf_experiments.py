"""Every experiment recipe, and every named grid that runs offline, trains two tiny steps."""

import json
from pathlib import Path

import pytest

from conf.app import CONF
from tracking.store import Store
from train.data.tokens import Vocabulary
from train.loop import train

RECIPES = sorted(path.stem for path in Path(CONF, "experiment").glob("*.yaml"))
LABELS = {
    "sst2_scratch": ("0", "1"),
    "trec_scratch": ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"),
    "study_imdb": ("0", "1"),
    "study_banking77": ("activate_my_card", "age_limit"),
}
LABEL_COLUMN = {"study_banking77": "category"}
CHARACTERS = "abcdefghijklmnopqrstuvwxyz'0123456789"  # of the label strings, which a vocabulary has to spell
TINY = ("size.d_model=8", "size.d_kv=4", "size.d_ff=8", "train.steps=2", "train.batch_size=4", "train.eval_examples=4")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains(recipe, compose, tmp_path):
    labels = LABELS.get(recipe, ("ein Wort", "zwei Worte"))
    texts = [(f"some words number {i}", labels[i % len(labels)]) for i in range(30)]
    for split in ("train", "test"):
        if recipe in LABELS or recipe == "study_reviews":
            rows = "".join(f"{text},{label}\n" for text, label in texts)
            (tmp_path / f"{split}.csv").write_text(f"text,{LABEL_COLUMN.get(recipe, 'label')}\n" + rows)
        else:
            lines = [json.dumps({"translation": {"en": text, "de": label}}) for text, label in texts]
            (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    text = [
        "some words number",
        "negative positive acronym description entity human location sentiment question",
        " ".join(CHARACTERS),
    ]
    model = tmp_path / "spiece.model"
    model.write_bytes(Vocabulary.train(text, 140).model)
    given = (f"dataset.path={tmp_path}", f"tracking.root={tmp_path / 'r'}", "tokenizer.vocabulary_size=100")
    vocabulary = (f"tokenizer.path={tmp_path / 'spiece.model'}",) if recipe in LABELS else ()
    if recipe == "study_reviews":
        given += ("dataset.max_input_length=16", "dataset.validation_share=0.4")
    config = compose(f"experiment={recipe}", *given, *vocabulary, *TINY, "size.vocabulary_size=null")
    assert train(config, Store(config.tracking.root)).name == f"model-{config.dataset.name}-nano-s0"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_its_command(recipe):
    assert f"experiment={recipe}" in Path(CONF, "experiment", f"{recipe}.yaml").read_text().splitlines()[2]
