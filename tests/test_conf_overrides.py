"""What Hydra's grammar refuses is answered with the line to type: it is one that a shell and Hydra read as meant."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from conf.errors import EdgewiseError
from conf.overrides import check_overrides, hydra_text, shell_quoted


@pytest.mark.parametrize(
    ("typed", "line", "value"),
    [
        ("""'dataset.classes={"0": neg, "1": pos}'""", "'dataset.classes={0: neg, 1: pos}'", {0: "neg", 1: "pos"}),
        ("'dataset.classes={0: no!, 1: yes}'", """'dataset.classes={0: "no!", 1: yes}'""", {0: "no!", 1: "yes"}),
        ("dataset.classes={0: bad, 1: good}", "'dataset.classes={0: bad, 1: good}'", {0: "bad", 1: "good"}),
        ("dataset.classes={0:bad,1:good}", "'dataset.classes={0: bad, 1: good}'", {0: "bad", 1: "good"}),
        ("dataset.template={review}", """'dataset.template="{review}"'""", "{review}"),
        ("'dataset.template={title}: {text}'", """'dataset.template="{title}: {text}"'""", "{title}: {text}"),
        ("dataset.path=my folder/rows", "'dataset.path=my folder/rows'", "my folder/rows"),
        ("dataset.path=a&b", """'dataset.path="a&b"'""", "a&b"),
        ("""'dataset.columns={" label": label}'""", r"'dataset.columns={\ label: label}'", {" label": "label"}),
        ("'dataset.separator=;'", """'dataset.separator=";"'""", ";"),
        ("'dataset.columns=[text!, label]'", """'dataset.columns=["text!", label]'""", ["text!", "label"]),
    ],
)
def test_the_line_to_type(typed: str, line: str, value: object) -> None:
    arguments = ["size=nano", *as_a_shell_does(typed), "seed=1"]
    with pytest.raises(EdgewiseError) as error:
        check_overrides(arguments)
    assert str(error.value).endswith(f"type {line}"), error.value
    [argument] = shlex.split(line)
    assert OverridesParser.create().parse_override(argument).value() == value


def as_a_shell_does(typed: str) -> list[str]:
    """Cuts into words; braces that are not in quotes and hold a comma make a word of each of their parts."""
    words = shlex.split(typed)
    if len(words) == 1 and words[0] == typed and "," in typed:
        key, _, inner = typed.partition("={")
        return [f"{key}={part}" for part in inner.rstrip("}").split(",")]
    return words


def test_names_that_no_command_line_can_hold_go_into_a_file() -> None:
    for typed in ('dataset.classes={ä: a, b: "c"}', 'dataset.classes={"1.50": a, "2": b}'):
        with pytest.raises(EdgewiseError, match=r"put them into a file, as `python -m conf\.init DIR` writes it"):
            check_overrides([typed])


def test_a_word_that_is_no_override() -> None:
    with pytest.raises(EdgewiseError, match=r"^nano: expected KEY=VALUE, such as seed=0$"):
        check_overrides(["nano"])
    check_overrides(["-m", "~dataset", "--config-name", "sweeps", "+a=1", "-cd", "folder", "seed=1"])


def test_texts_in_quotes() -> None:
    assert shell_quoted("seed=1") == "seed=1" and shell_quoted("a b") == "'a b'" and shell_quoted("it's") == '"it\'s"'
    assert shlex.split(shell_quoted("it's $x")) == ["it's $x"]
    assert [hydra_text(text) for text in ("label", " label", "a:b", "007")] == ["label", r"\ label", r"a\:b", "007"]
