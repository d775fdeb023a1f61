"""Label and field selectors, in Kubernetes' string form.

A selector is parsed once and asked about many objects, by their labels or their selectable fields
alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kedge.api.scheme import Kind
from kedge.cluster.errors import BadRequest

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_KEY = rf"(?:[A-Za-z0-9.-]+/)?{_NAME}"
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_EQUALS = re.compile(rf"({_KEY})\s*(==|=|!=)\s*((?:{_NAME})?)")
_IN = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")


@dataclass(frozen=True, slots=True)
class _Requirement:
    key: str
    values: frozenset[str]
    """Empty: the key must only be there."""
    wanted: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        found = value is not None if not self.values else value in self.values
        return found == self.wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that must all hold; none is fulfilled by everything."""

    requirements: tuple[_Requirement, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.requirements)

    def matches(self, values: Mapping[str, str]) -> bool:
        return all(requirement.matches(values) for requirement in self.requirements)

    def value_of(self, key: str) -> str | None:
        """The one value that `key` must have, where the selector says so."""
        for one in self.requirements:
            if one.key == key and one.wanted and len(one.values) == 1:
                return next(iter(one.values))
        return None

    def without(self, *keys: str) -> Selector:
        return Selector(tuple(one for one in self.requirements if one.key not in keys))


EVERYTHING = Selector()


def parse_labels(text: str | None) -> Selector:
    """`app=x,tier!=y,env in (a, b),!canary`.

    Raises:
        BadRequest: the text is no label selector.
    """
    if not text or not text.strip():
        return EVERYTHING
    return Selector(tuple(_parse_label(part.strip(), text) for part in _split(text)))


def parse_fields(kind: Kind, text: str | None, fields: tuple[str, ...]) -> Selector:
    """`metadata.name=x,status.phase!=Running`; `fields` are those that `kind` supports.

    Raises:
        BadRequest: the text is no field selector, or asks for a field that cannot be selected.
    """
    if not text or not text.strip():
        return EVERYTHING
    return Selector(tuple(_parse_field(kind, part.strip(), fields) for part in text.split(",")))


def _split(text: str) -> list[str]:
    """At commas outside of parentheses."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _parse_label(part: str, text: str) -> _Requirement:
    if match := _EQUALS.fullmatch(part):
        key, operator, value = match.groups()
        return _Requirement(key, frozenset({value}), operator != "!=")
    if match := _IN.fullmatch(part):
        key, operator, values = match.groups()
        chosen = frozenset(value.strip() for value in values.split(","))
        return _Requirement(key, chosen, operator == "in")
    if match := _EXISTS.fullmatch(part):
        return _Requirement(match[2], frozenset(), not match[1])
    raise BadRequest(
        f"unable to parse requirement {part!r} of label selector {text!r}."
        " Fix: Write key=value, key!=value, key in (a,b), key notin (a,b), key or !key."
    )


def _parse_field(kind: Kind, part: str, fields: tuple[str, ...]) -> _Requirement:
    match = re.fullmatch(r"([^=!]+?)\s*(==|=|!=)\s*(.*)", part)
    if match is None:
        raise BadRequest(
            f"invalid selector: {part!r}; can't understand it. Fix: Write field=value."
        )
    field, operator, value = match.groups()
    if field not in ("metadata.name", "metadata.namespace", *fields):
        raise BadRequest(f'field label not supported for {kind}: "{field}"')
    return _Requirement(field, frozenset({value}), operator != "!=")
