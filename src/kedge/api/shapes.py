"""What a msgspec type allows, in Kubernetes' own terms: quantities, int-or-string, maps, enums.

`struct_shape` reads a Struct once and keeps the answer. What Python's types do not say comes from
three places: lightkube's annotations (which name quantities), the names of its untyped maps, and
two class variables of our own Structs: `preserve_unknown_fields` and `omitted_fields`. Descriptions
come from the docstrings.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal

import msgspec


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value.

    Attributes:
        type: JSON type, or one of Kubernetes' two mixed ones.
        format: `date-time`, or empty.
        enum: the only values allowed; empty for any.
    """

    type: Literal["string", "integer", "number", "boolean", "quantity", "int-or-string"]
    format: str = ""
    enum: tuple[str, ...] = ()
    pattern: str = ""
    minimum: int | None = None
    maximum: int | None = None
    min_length: int | None = None
    max_length: int | None = None


@dataclass(frozen=True, slots=True)
class Free:
    """Anything; `object` when it must be a JSON object."""

    object: bool = False


@dataclass(frozen=True, slots=True)
class ListOf:
    items: Shape
    min_items: int = 0


@dataclass(frozen=True, slots=True)
class MapOf:
    values: Shape


@dataclass(frozen=True, slots=True)
class StructOf:
    """An object with known fields: `struct_shape(cls)`."""

    cls: type[msgspec.Struct]


Shape = Scalar | Free | ListOf | MapOf | StructOf


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object.

    Attributes:
        own: whether the description is ours, not Kubernetes'.
        merge_keys: of a list, the fields that tell its entries apart; empty for a list that is
            replaced whole.
    """

    shape: Shape
    required: bool
    description: str = ""
    own: bool = False
    merge_keys: tuple[str, ...] = ()
    default: Any = None


@dataclass(frozen=True, slots=True)
class StructShape:
    """An object's fields, by their JSON names."""

    cls: type[msgspec.Struct]
    description: str
    fields: Mapping[str, Field]
    preserve_unknown: bool


STRING = Scalar("string")
QUANTITY = Scalar("quantity")
INT_OR_STRING = Scalar("int-or-string")

_QUANTITY_MAPS = frozenset(
    {
        "allocatable", "allocatedResources", "capacity", "consumedCapacity", "default",
        "defaultRequest", "hard", "limits", "max", "min", "overhead", "podFixed", "requests",
        "used",
    }
)  # fmt: skip
_FREE_MAPS = frozenset(
    {
        "attributes", "counters", "definitions", "dependencies", "disruptedPods", "extra",
        "patternProperties", "properties",
    }
)  # fmt: skip
_CONTAINER_KEYS: Mapping[str, tuple[str, ...]] = {
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
}
_POD_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
_OTHER_KEYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ObjectMeta": {"ownerReferences": ("uid",)},
    "ServiceSpec": {"ports": ("port", "protocol")},
    "ServiceAccount": {"secrets": ("name",)},
    "NodeStatus": {"addresses": ("type",)},
    "PodStatus": {"podIPs": ("ip",)},
}


@cache
def struct_shape(cls: type[msgspec.Struct]) -> StructShape:
    """The shape of a Struct."""
    theirs, ours = _descriptions(cls)
    raw = _raw_annotations(cls)
    omitted: frozenset[str] = getattr(cls, "omitted_fields", frozenset())
    fields = {
        field.encode_name: Field(
            shape=_shape(field.type, str(raw.get(field.name, "")), field.encode_name),
            required=field.required,
            description=ours.get(field.name) or theirs.get(field.name, ""),
            own=field.name in ours,
            merge_keys=_merge_keys(cls, field.encode_name),
            default=_default(cls, field),
        )
        for field in msgspec.structs.fields(cls)
        if field.encode_name not in omitted
    }
    return StructShape(
        cls=cls,
        description=_summary(cls),
        fields=fields,
        preserve_unknown=getattr(cls, "preserve_unknown_fields", False),
    )


def _merge_keys(cls: type[msgspec.Struct], name: str) -> tuple[str, ...]:
    """How Kubernetes tells the entries of a list apart, where it does."""
    siblings = {field.name for field in msgspec.structs.fields(cls)}
    if name == "conditions":
        return ("type",)
    if {"args", "command"} <= siblings:
        return _CONTAINER_KEYS.get(name, ())
    if {"containers", "tolerations"} <= siblings:
        return _POD_KEYS.get(name, ())
    return _OTHER_KEYS.get(cls.__name__, {}).get(name, ())


def _default(cls: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> Any:
    if cls.__name__ == "ContainerPort" and field.name == "protocol":
        return "TCP"
    simple = isinstance(field.default, str | int | bool) and not field.required
    return field.default if simple else None


def _raw_annotations(cls: type[msgspec.Struct]) -> dict[str, Any]:
    raw: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        raw.update(inspect.get_annotations(base))
    return raw


def _shape(type_: Any, raw: str, name: str) -> Shape:
    origin = typing.get_origin(type_)
    if origin is typing.Annotated:
        inner, *metas = typing.get_args(type_)
        return _constrained(_shape(inner, raw, name), metas)
    if origin in (typing.Union, types.UnionType):
        return _union([arg for arg in typing.get_args(type_) if arg is not type(None)], raw, name)
    if origin is Literal:
        return Scalar("string", enum=tuple(str(arg) for arg in typing.get_args(type_)))
    if origin is list or type_ is list:
        (items,) = typing.get_args(type_) or (Any,)
        return ListOf(_shape(items, raw, name))
    if origin is dict or type_ in (dict, typing.Dict):  # noqa: UP006  # lightkube's own spelling
        return _map(typing.get_args(type_), raw, name)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return StructOf(type_)
    return _scalar(type_, raw)


def _scalar(type_: Any, raw: str) -> Shape:
    if type_ is str:
        return QUANTITY if "Quantity" in raw else STRING
    if type_ is datetime:
        return Scalar("string", format="date-time")
    names: dict[Any, Shape] = {
        bool: Scalar("boolean"), int: Scalar("integer"), float: Scalar("number"),
    }  # fmt: skip
    return names.get(type_, Free())


def _union(args: list[Any], raw: str, name: str) -> Shape:
    if len(args) == 1:
        return _shape(args[0], raw, name)
    if set(args) == {int, str}:
        return INT_OR_STRING
    if set(args) == {int, float, str}:
        return QUANTITY
    return Free()


def _map(args: tuple[Any, ...], raw: str, name: str) -> Shape:
    if len(args) == 2 and not isinstance(args[1], typing.TypeVar):
        values = _shape(args[1], "", name)
        return Free(object=True) if values == Free() else MapOf(values)
    if "dict" not in raw or name in _FREE_MAPS:
        return Free(object=True)
    return MapOf(QUANTITY if name in _QUANTITY_MAPS else STRING)


def _constrained(shape: Shape, metas: list[Any]) -> Shape:
    for meta in metas:
        if not isinstance(meta, msgspec.Meta):
            continue
        if isinstance(shape, ListOf):
            shape = ListOf(shape.items, min_items=meta.min_length or 0)
        elif isinstance(shape, Scalar):
            shape = Scalar(
                shape.type,
                format=shape.format,
                enum=shape.enum,
                pattern=meta.pattern or "",
                minimum=_whole(meta.ge),
                maximum=_whole(meta.le),
                min_length=meta.min_length,
                max_length=meta.max_length,
            )
    return shape


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


_LIGHTKUBE_FIELD = re.compile(r"^\* \*\*(\w+)\*\* ``[^`]*`` - (.*)$")
_OWN_FIELD = re.compile(r"^    (\w+): (.*)$")


def _descriptions(cls: type[msgspec.Struct]) -> tuple[dict[str, str], dict[str, str]]:
    """What lightkube says about each field, and what our own docstrings say."""
    theirs: dict[str, str] = {}
    ours: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        if "**parameters**" in text:
            lines = [line.strip() for line in text.partition("**parameters**")[2].splitlines()]
            theirs.update(_entries(lines, _LIGHTKUBE_FIELD))
        elif "Attributes:" in text and base.__module__.startswith("kedge."):
            ours.update(_entries(text.partition("Attributes:")[2].splitlines(), _OWN_FIELD))
    return theirs, ours


def _entries(lines: list[str], form: re.Pattern[str]) -> dict[str, str]:
    entries: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        match = form.match(line)
        if match:
            current = entries.setdefault(match[1], [])
            current.append(match[2].strip())
        elif line.strip():
            current.append(line.strip())
    return {name: _sentence(" ".join(words)) for name, words in entries.items()}


def _summary(cls: type[msgspec.Struct]) -> str:
    text = inspect.cleandoc(cls.__doc__ or "")
    head = text.partition("**parameters**")[0].partition("Attributes:")[0]
    return _sentence(" ".join(head.split()))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if text else ""
