"""Reads and answers GraphQL documents, strictly: what the schema does not name is an error, never a null.

The schema is made of classes. A class is a type, its public methods are the type's fields, their keyword parameters the
fields' arguments; `INTERFACES` are other names that a fragment may know the type by. A method returns a scalar (or any
JSON value), an object of such a class, or a list of them.
"""

import functools
import inspect
import re
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(r'\s+|,|#[^\n]*|(?P<token>\.\.\.|[{}()\[\]:=!$@|&]|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|\w+)')


# What the SDK is known to send without declaring it, and W&B to ignore.
_SURPLUS = {"UpsertBucket": {"entity", "name", "project"}}


class GraphQLError(Exception):
    """The document, its variables or what it asks for is not of this schema. `status` is the HTTP status."""

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Field:
    name: str
    alias: str
    arguments: dict[str, Any]
    directives: dict[str, dict[str, Any]]
    selections: list[Any]


@dataclass
class Fragment:
    """A named fragment's body, or an inline one; `spread` names one whose body is elsewhere."""

    on: str | None
    selections: list[Any] = field(default_factory=list)
    directives: dict[str, dict[str, Any]] = field(default_factory=dict)
    spread: str | None = None


@dataclass(frozen=True)
class Variable:
    name: str


@dataclass
class Document:
    """One operation. `variables` maps each declared name to (is required, has a default, the default)."""

    kind: str = ""
    name: str = ""
    variables: dict[str, tuple[bool, bool, Any]] = field(default_factory=dict)
    selections: list[Any] = field(default_factory=list)
    fragments: dict[str, Fragment] = field(default_factory=dict)


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens, end = [], 0
        for match in _TOKEN.finditer(text):
            if match.start() != end:
                break
            end = match.end()
            if match["token"]:
                self._tokens.append(match["token"])
        if end != len(text):
            raise GraphQLError(f"not GraphQL at: {text[end : end + 40]!r}", 400)
        self._tokens.append("")
        self._at = 0

    @property
    def _next(self) -> str:
        return self._tokens[self._at]

    def _take(self, expected: str | None = None) -> str:
        token = self._next
        if not token or (expected is not None and token != expected):
            raise GraphQLError(f"expected {expected or 'more'!r}, found {token!r}", 400)
        self._at += 1
        return token

    def _took(self, token: str) -> bool:
        if self._next != token:
            return False
        self._at += 1
        return True

    def document(self) -> Document:
        document = Document()
        while self._next:
            kind = self._take()
            if kind == "fragment":
                name = self._take()
                self._take("on")
                document.fragments[name] = Fragment(self._take(), self._selections())
            elif kind in ("query", "mutation") and not document.kind:
                document.kind = kind
                document.name = self._take() if self._next not in ("(", "{") else ""
                document.variables = self._variables()
                document.selections = self._selections()
            else:
                raise GraphQLError(f"expected one query or mutation and fragments, found {kind!r}", 400)
        return document

    def _variables(self) -> dict[str, tuple[bool, bool, Any]]:
        found = {}
        if self._took("("):
            while not self._took(")"):
                self._take("$")
                name = self._take()
                self._take(":")
                required = self._type()
                has_default = self._took("=")
                found[name] = required, has_default, self._value() if has_default else None
        return found

    def _type(self) -> bool:
        if self._took("["):
            self._type()
            self._take("]")
        else:
            self._take()
        return self._took("!")

    def _value(self) -> Any:
        token = self._take()
        if token == "$":
            return Variable(self._take())
        if token == "{":
            values = {}
            while not self._took("}"):
                name = self._take()
                self._take(":")
                values[name] = self._value()
            return values
        if token == "[":
            items = []
            while not self._took("]"):
                items.append(self._value())
            return items
        if token.startswith('"'):
            return re.sub(r"\\(.)", r"\1", token[1:-1])
        if re.fullmatch(r"-?\d+", token):
            return int(token)
        return {"true": True, "false": False, "null": None}.get(token, token)

    def _arguments(self) -> dict[str, Any]:
        values = {}
        if self._took("("):
            while not self._took(")"):
                name = self._take()
                self._take(":")
                values[name] = self._value()
        return values

    def _directives(self) -> dict[str, dict[str, Any]]:
        found = {}
        while self._took("@"):
            name = self._take()
            found[name] = self._arguments()
        return found

    def _selections(self) -> list[Any]:
        self._take("{")
        found: list[Any] = []
        while not self._took("}"):
            if self._took("..."):
                if self._next in ("{", "@") or self._took("on"):
                    on = self._take() if self._next not in ("{", "@") else None
                    directives = self._directives()
                    found.append(Fragment(on, self._selections(), directives))
                else:
                    found.append(Fragment(None, spread=self._take(), directives=self._directives()))
                continue
            alias = name = self._take()
            if self._took(":"):
                name = self._take()
            arguments, directives = self._arguments(), self._directives()
            selections = self._selections() if self._next == "{" else []
            found.append(Field(name, alias, arguments, directives, selections))
        return found


@functools.lru_cache(maxsize=256)  # the SDK sends the same documents over and over
def parse(text: str) -> Document:
    """The document of a request. Raises GraphQLError where it is not GraphQL."""
    return _Parser(text).document()


def execute(document: Document, variables: dict[str, Any], root: Any) -> dict[str, Any]:
    """The `data` of the answer. Raises GraphQLError for whatever the document or the schema does not declare."""
    given = {
        name for name, value in variables.items() if value is not None
    }  # the SDK adds nulls that it left out above
    if unknown := sorted(given - set(document.variables) - _SURPLUS.get(document.name, set())):
        raise GraphQLError(f"{document.name}: variables {', '.join(unknown)} are not declared", 400)
    values = {}
    for name, (required, has_default, default) in document.variables.items():
        if name in variables:
            values[name] = variables[name]
        elif has_default:
            values[name] = default
        if required and values.get(name) is None:
            raise GraphQLError(f"{document.name}: variable {name} is required", 400)
    return _Execution(document, values).object(root, document.selections)


class _Execution:
    def __init__(self, document: Document, variables: dict[str, Any]) -> None:
        self._document, self._variables = document, variables

    def object(self, value: Any, selections: list[Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for selection in selections:
            if not self._included(selection.directives):
                continue
            if isinstance(selection, Fragment):
                body = selection
                if selection.spread is not None:
                    if selection.spread not in self._document.fragments:
                        raise GraphQLError(f"unknown fragment {selection.spread}", 400)
                    body = self._document.fragments[selection.spread]
                if body.on is None or body.on in (type(value).__name__, *getattr(value, "INTERFACES", ())):
                    _merge(result, self.object(value, body.selections))
                continue
            _merge(result, {selection.alias: self._field(value, selection)})
        return result

    def _included(self, directives: dict[str, dict[str, Any]]) -> bool:
        for name, arguments in directives.items():
            if name not in ("include", "skip"):
                raise GraphQLError(f"unknown directive @{name}", 400)
            if bool(self._bound(arguments["if"])) is (name == "skip"):
                return False
        return True

    def _field(self, value: Any, selection: Field) -> Any:
        kind = type(value).__name__
        if selection.name == "__typename":
            return kind
        method = None if selection.name.startswith("_") else getattr(value, selection.name, None)
        if not inspect.ismethod(method):
            raise GraphQLError(f'Cannot query field "{selection.name}" on type "{kind}".', 400)
        arguments = {
            name: self._bound(given)
            for name, given in selection.arguments.items()
            if not (isinstance(given, Variable) and given.name not in self._variables)
        }
        try:
            inspect.signature(method).bind(**arguments)
        except TypeError as error:
            raise GraphQLError(f"{kind}.{selection.name}: {error}", 400) from error
        return self._complete(method(**arguments), selection)

    def _bound(self, value: Any) -> Any:
        if isinstance(value, Variable):
            if value.name not in self._document.variables:
                raise GraphQLError(f"variable ${value.name} is not declared", 400)
            return self._variables.get(value.name)
        if isinstance(value, dict):
            bound = {name: self._bound(item) for name, item in value.items()}
            return {name: item for name, item in bound.items() if item is not None}
        if isinstance(value, list):
            return [self._bound(item) for item in value]
        return value

    def _complete(self, value: Any, selection: Field) -> Any:
        if isinstance(value, list) and any(_is_node(item) for item in value):
            return [self._complete(item, selection) for item in value]
        if _is_node(value):
            if not selection.selections:
                raise GraphQLError(f'Field "{selection.name}" must have a selection of subfields.', 400)
            return self.object(value, selection.selections)
        if selection.selections and value not in (None, []):
            raise GraphQLError(f'Field "{selection.name}" is a scalar and has no subfields.', 400)
        return value


def _is_node(value: Any) -> bool:
    return getattr(value, "GRAPHQL", False)


def _merge(result: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            _merge(result[name], value)
        elif isinstance(value, list) and isinstance(result.get(name), list) and value and isinstance(value[0], dict):
            for old, new in zip(result[name], value, strict=True):
                _merge(old, new)
        else:
            result[name] = value
