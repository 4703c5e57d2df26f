"""Settings of the documentation site: `just docs` builds it from docs/ and the docstrings, by Sphinx.

The docstrings and signatures are read from the sources by sphinx-autoapi: no module is imported, so that the site needs
neither JAX nor anything else of requirements.lock.
"""

import re
import tomllib
from pathlib import Path

from pygments.lexers.special import TextLexer

REPO = Path(__file__).parents[1]
ROOMS = ("conf", "tracking", "metrics", "train", "infer", "sweeps")

project = "Edgewise"
author = "The Edgewise authors"
copyright = "2026, The Edgewise authors"  # noqa: A001 - Sphinx's own name
release = version = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "autoapi.extension"]
exclude_patterns = ["api/index.rst"]  # docs/index.md lists the rooms itself
highlight_language = "none"  # a block that names no language is a command or an output
html_theme = "furo"
html_title = f"Edgewise {release}"
html_copy_source = False
html_show_sphinx = False
toc_object_entries = False  # the sidebar lists modules: with every function in it a page takes seconds to write

myst_heading_anchors = 3  # links to a heading, as GitHub makes them
suppress_warnings = [
    "autoapi.python_import_resolution",  # it does not see names that one assignment unpacks: RED, BLUE = ...
    "ref.python",  # `bytes` in a signature is the built-in, though some class has an attribute of that name
]

autoapi_dirs = [str(REPO / room) for room in ROOMS]
autoapi_root = "api"
autoapi_add_toctree_entry = False
autoapi_options = ["members", "undoc-members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_python_class_content = "class"

CODE = re.compile(r"(`[^`]+`)")
MARKUP = re.compile(r"([*|\\])|(?<=\S)(_)(?!\w)")
ITEM = re.compile(r"- |\d+\. ")


def inline(text: str) -> str:
    """Returns Markdown text as reStructuredText: code spans stay, and nothing else is markup."""
    parts = CODE.split(text)
    return "".join(f"\\ `{part}`\\ " if i % 2 else MARKUP.sub(r"\\\g<0>", part) for i, part in enumerate(parts))


def to_rst(markdown: str) -> str:
    """Returns a docstring, which is Markdown, as reStructuredText: text, lists, indented blocks as they are."""
    blocks: list[tuple[str, list[str]]] = [("text", [])]
    for line in markdown.splitlines():
        kind = blocks[-1][0]
        if line and not line.startswith(" "):
            kind = "list" if ITEM.match(line) else "text"
        elif line and kind == "text":
            kind = "as it is"
        if kind != blocks[-1][0]:
            blocks.append((kind, []))
        blocks[-1][1].append(line)
    return "\n\n".join(
        "\n".join(["::", "", *lines]) if kind == "as it is" else inline("\n".join(lines)) for kind, lines in blocks
    )


def translate(app, what, name, found, options, lines: list[str]) -> None:
    """Rewrites a docstring's lines in place, as Sphinx asks its listeners to."""
    lines[:] = [*to_rst("\n".join(lines)).splitlines(), ""]


def setup(app) -> None:
    """Connects `translate`, and shows CSV as it is; Sphinx calls this."""
    app.connect("autodoc-process-docstring", translate)
    app.add_lexer("csv", TextLexer)
