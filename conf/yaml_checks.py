"""Refuses YAML that says something else than it seems to: 010 is 8, 1:30 is 90, of two equal keys the last counts."""

import functools
import re
from collections.abc import Iterator

import yaml

from conf.errors import EdgewiseError

TEXT_KEYS = ("class", "classes", "drop_labels")  # what stands under them is text, a number's digits included
_INTEGER = "tag:yaml.org,2002:int"
_MERGE = "tag:yaml.org,2002:merge"  # of `<<`, which may be there more than once
_DIGITS = re.compile(r"-?(?:0|[1-9][0-9]*)")  # what is read as it is written
_EVIDENT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)")  # what nobody would take for another number


@functools.lru_cache(maxsize=256)  # a sweep composes its cells from the same files
def check_yaml(where: str, text: str) -> None:
    """Checks the whole numbers and the keys of a YAML document; `where` names it in errors.

    Refuses octal numbers (010) and numbers of base 60 (1:30) anywhere; in keys and under TEXT_KEYS, where a number
    stands for its digits, also 0x10, 0b1, +1 and 1_000; and a key that is there twice in one mapping. YAML that can't
    be parsed is left to whoever reads it. Raises EdgewiseError with the line and what to write instead.
    """
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return
    for node, is_text in _nodes(document):
        if isinstance(node, yaml.MappingNode):
            _check_keys(where, node)
        elif node.tag == _INTEGER and not (_DIGITS if is_text else _EVIDENT).fullmatch(node.value):
            value = yaml.SafeLoader("").construct_yaml_int(yaml.ScalarNode(_INTEGER, node.value))
            raise EdgewiseError(
                f"{where}, line {node.start_mark.line + 1}: YAML reads {node.value} as the number {value}; write "
                f'{value} for the number, or "{node.value}" in quotes for the text'
            )


def _check_keys(where: str, mapping: yaml.MappingNode) -> None:
    """Raises EdgewiseError where a mapping has a key twice."""
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        line = key.start_mark.line + 1
        if key.value in lines:
            raise EdgewiseError(
                f"{where}, line {line}: the key {key.value} is there twice, first in line {lines[key.value]}; keep one"
            )
        lines[key.value] = line


def _nodes(document: yaml.Node | None) -> Iterator[tuple[yaml.Node, bool]]:
    """Yields every node of a document, and whether it stands where text is due."""
    waiting: list[tuple[yaml.Node | None, bool]] = [(document, False)]
    seen: set[tuple[int, bool]] = set()  # an alias gives a node more than one place, and may close a circle
    while waiting:
        node, is_text = waiting.pop()
        if node is None or (id(node), is_text) in seen:
            continue
        seen.add((id(node), is_text))
        yield node, is_text
        if isinstance(node, yaml.SequenceNode):
            waiting += [(one, is_text) for one in node.value]
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                under_text = is_text or (isinstance(key, yaml.ScalarNode) and key.value in TEXT_KEYS)
                waiting += [(key, True), (value, under_text)]
