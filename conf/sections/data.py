"""Types the config of a dataset and of the vocabulary that splits its texts."""

from dataclasses import dataclass, field
from typing import Any, Optional

from omegaconf import MISSING

from conf.errors import EdgewiseError
from conf.names import checked_name, checked_seed
from conf.sections.values import AUTO, Seed, Text, at_least, one_of
from conf.text import IN_CONFIG_LIST, checked_text, checked_texts, optional_text

TASKS = ("classification", "span_qa", "translation")  # those whose rows have a target: what can be scored
MODEL_TYPES = BPE, WORD = ("bpe", "word")  # of vocabularies that are trained here, by SentencePiece's names
PLAIN_TEXT = "text"  # the task of a dataset without labels, on which models are pre-trained


@dataclass
class Recipe:
    """Holds the training values that go with a dataset: the defaults of `train.*`, `optimizer.*` and `tokenizer.*`.

    `optimizer` is the default of `optimizer.name`. The other fields have the names of the keys whose defaults they are.
    """

    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_steps: int = 0
    objective: str = "supervised"
    optimizer: str = "adafactor"
    b2: float = 0.999
    weight_decay: float = 0.0
    token_dropout: float = 0.0
    min_token_count: int = 1
    vocabulary_size: int = 512
    lower_case: bool = False
    whole_labels: bool = False
    model_type: str = BPE
    softmax: str = "vocabulary"


def _checked_columns(columns: Any, join_column: str | None) -> dict[str, str] | list[str] | None:
    """Returns `dataset.columns` with all names as text; EdgewiseError for what is neither a mapping nor a list."""
    if columns is None:
        return None
    if isinstance(columns, dict):
        return checked_texts("dataset.columns", columns)
    if not isinstance(columns, list) or len(columns) < 2:
        raise EdgewiseError(
            f"dataset.columns={columns}: expected a mapping, the file's names first: 'dataset.columns={{review: text}}'"
            ", or, of a file without a header row, the list of all its columns: 'dataset.columns=[text, label]'"
        )
    names = [checked_text("dataset.columns", name, IN_CONFIG_LIST) for name in columns]
    if len(set(names)) < len(names):
        raise EdgewiseError(f"dataset.columns={names}: expected each name once; name the others, such as unused_1")
    if join_column is not None:
        raise EdgewiseError(
            f"dataset.columns={names} dataset.join_column={join_column}: expected files with header rows to join; "
            "give them header rows, or dataset.join_column=null"
        )
    return names


def _checked_separator(separator: str) -> str:
    """Returns the one character that `dataset.separator` means; EdgewiseError where it means none."""
    character = "\t" if separator in ("tab", "\\t") else separator
    if len(character) != 1 or character.isalnum() or character in '"\r\n ':
        raise EdgewiseError(
            f"dataset.separator={separator!r}: expected one character such as 'dataset.separator=\";\"', or tab"
        )
    return character


@dataclass
class Dataset:
    """Describes a dataset of labelled texts, or of plain text to pre-train on.

    `classes` maps each label, as it is written in the data, to the target string that the model learns to say;
    its order is the order of `class_log_likelihoods`. `template` is filled with the row's columns.

    Without `path`, the rows come from the Hub's `hub_id` at `hub_revision` (a branch, a tag or a commit): as `datasets`
    reads the repository, or from the files that `hub_files` names (train, validation, test, or all in one; a file or a
    glob). `columns` maps names that a column may have in the source to the name it has here; a list of names, in the
    file's order, is of CSV or TSV files without a header row. `separator` is what separates the values of a CSV file
    (`tab` for a tab), where its header row doesn't show it. A column `join_column` joins a split's file with
    SPLIT_labels beside it. Rows labelled as in `drop_labels` are left out and counted. `splits` names the source's
    split for each of ours, where they differ. `expected_rows` is what the paper counts in each split.

    One file of all rows is split by `test_share` and `split_seed`. With `split_by: text` rows of one text are on one
    side, and rows that are added move none; with `row`, each row is drawn by itself, for a share that is met exactly.

    `cluster` names the column of what rows share that are not independent, such as the user who wrote them. Scores
    carry it. `auto` is SQuAD's article, the column `title` of span QA, where the rows have one.

    Of the task `text` there are no labels, and a row is a document. Where there is no validation file, about
    `validation_share` of the documents are held out, chosen by the hashes of their texts with `split_seed`.

    The other tasks have no classes: the target is the text of `label_column`. A column that is a field of an object has
    a dotted name in `columns`, such as `translation.de`. In `span_qa` a row may have several gold answers, the first of
    which is the target.
    """

    name: Text = MISSING
    task: str = "classification"
    path: Optional[Text] = None
    file_prefix: Text = ""  # train.csv may also be called PREFIXtrain.csv
    hub_id: Optional[Text] = None
    hub_config: Optional[Text] = None
    hub_revision: Text = "main"
    hub_files: Any = None
    columns: Any = None  # a mapping, or a list
    separator: Optional[Text] = None
    join_column: Optional[Text] = None
    drop_labels: Any = None
    splits: Any = None
    test_share: Optional[float] = None
    split_seed: Seed = 0
    split_by: str = "text"
    validation_share: float = 0.01  # of plain text
    expected_rows: Any = None
    label_column: Text = "label"
    cluster: Optional[Text] = AUTO
    classes: Any = None  # a mapping; Any, so that one given on the command line replaces `???` whole
    template: Text = "{text}"
    max_input_length: int = 512
    max_target_length: int = 512  # of the other tasks: targets are cut there, and decoding ends there
    beams: int = 1  # of decoding; 1 is greedy
    recipe: Recipe = field(default_factory=Recipe)
    # of the built-in generator alone
    generator_seed: Seed = 0
    train_examples: int = 0
    test_examples: int = 0

    def check_labelled(self) -> None:
        """Raises EdgewiseError for plain text, which has no targets that a model could be scored by."""
        if self.task == PLAIN_TEXT:
            raise EdgewiseError(
                f"dataset={self.name} is plain text, without labels: models are pre-trained on it (`python -m train`; "
                "several sizes by `python -m train -m`), and none is scored. Fine-tune from one, train.init=REF, on a "
                "labelled dataset, and score that"
            )

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        for key in ("name", "file_prefix", "hub_revision", "label_column", "template"):
            setattr(self, key, checked_text(f"dataset.{key}", getattr(self, key)))
        for key in ("path", "hub_id", "hub_config", "join_column", "cluster"):
            setattr(self, key, optional_text(f"dataset.{key}", getattr(self, key)))
        self.name = checked_name("dataset.name", self.name)
        self.split_seed = checked_seed("dataset.split_seed", self.split_seed)
        self.generator_seed = checked_seed("dataset.generator_seed", self.generator_seed)
        one_of("dataset.task", self.task, (*TASKS, PLAIN_TEXT))
        if self.task == "classification":
            if not isinstance(self.classes, dict):
                raise EdgewiseError(
                    f"dataset.classes={self.classes}: expected a mapping of label to target string, such as "
                    "'dataset.classes={0: negative, 1: positive}'"
                )
            self.classes = checked_texts("dataset.classes", self.classes)
        at_least("dataset.max_input_length", self.max_input_length, 2)
        at_least("dataset.max_target_length", self.max_target_length, 2)
        at_least("dataset.beams", self.beams, 1)
        one_of("dataset.split_by", self.split_by, ("text", "row"))
        for key in ("hub_files", "expected_rows", "splits"):
            if not isinstance(getattr(self, key), (dict, type(None))):
                raise EdgewiseError(f"dataset.{key}={getattr(self, key)}: expected a mapping, or null")
        if not isinstance(self.drop_labels, (list, type(None))):
            raise EdgewiseError(f"dataset.drop_labels={self.drop_labels}: expected a list such as [-1], or null")
        self.columns = _checked_columns(self.columns, self.join_column)
        if self.separator is not None:
            self.separator = _checked_separator(checked_text("dataset.separator", self.separator))
        if self.drop_labels is not None:
            self.drop_labels = [
                checked_text("dataset.drop_labels", label, IN_CONFIG_LIST) for label in self.drop_labels
            ]
        if not 0 < self.validation_share < 1:
            raise EdgewiseError(f"dataset.validation_share={self.validation_share}: expected a share between 0 and 1")
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise EdgewiseError(f"dataset.test_share={self.test_share}: expected a share between 0 and 1")


@dataclass(unsafe_hash=True)  # as Size
class Tokenizer:
    """Names a SentencePiece vocabulary: the file at `path`, or the one of the checkpoint that the cell starts from.

    Without either, one is trained on the training split's text. `lower_case` makes that one read capital letters as
    small ones: where texts are few, a word at the start of a sentence is then the word that it is elsewhere. What such
    a vocabulary decodes has small letters only. `whole_labels` makes it give each class's label a piece of its own, of
    however many words: the model then says it in one step. `model_type` is SentencePiece's: `bpe`, or `word`, for
    which a word that the vocabulary doesn't have is <unk>, and a mark of punctuation a word. That suits few texts, in
    languages that put spaces between words, and labels, not generated text.
    """

    source: str = "trained"
    path: Optional[str] = None
    vocabulary_size: int = 512
    lower_case: bool = False
    whole_labels: bool = False
    model_type: str = BPE

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        one_of("tokenizer.model_type", self.model_type, MODEL_TYPES)
        one_of("tokenizer.source", self.source, ("trained", "file"))
