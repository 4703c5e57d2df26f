"""Every docstring starts with a verb in the third person, so that its first sentence says what the thing does."""

import ast

import pytest

from tests.support import REPO

ROOMS = ["conf", "tracking", "metrics", "train", "infer", "sweeps"]
PLURALS = {
    "classes",
    "sizes",
    "rows",
    "texts",
    "seeds",
    "examples",
    "figures",
    "columns",
    "cells",
    "tokens",
    "this",
    "its",
}


def docstrings(room):
    for path in sorted((REPO / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield f"{path.relative_to(REPO)}:{getattr(node, 'lineno', 1)}", text


@pytest.mark.parametrize("room", ROOMS)
def test_a_docstring_starts_with_a_verb(room):
    found = list(docstrings(room))
    assert found
    for where, text in found:
        first = text.split()[0].strip("`'\",.:")
        assert first.isalpha() and first[0].isupper() and first.endswith("s") and first.lower() not in PLURALS, (
            f"{where}: {text.splitlines()[0]!r}: expected a verb first, such as Returns, Reads, Holds"
        )
