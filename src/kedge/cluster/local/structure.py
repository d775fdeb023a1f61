"""The shape of each kind, as far as patches and server-side apply must know it.

JSON alone does not say whether a list is replaced as a whole, is a set, or is merged item by item
under a key. This module reads the types of a kind and adds what Kubernetes declares for its core
types: the key of a list follows nearly always from the type of its items.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import msgspec

from kedge.api.scheme import Kind

# What a server-side apply merges by, for each type of list item.
_KEYS: dict[str, tuple[str, ...]] = {
    "Container": ("name",),
    "ContainerPort": ("containerPort", "protocol"),
    "EnvVar": ("name",),
    "EphemeralContainer": ("name",),
    "HostAlias": ("ip",),
    "HostIP": ("ip",),
    "LocalObjectReference": ("name",),
    "NodeAddress": ("type",),
    "ObjectReference": ("name",),
    "OwnerReference": ("uid",),
    "PodIP": ("ip",),
    "PodResourceClaim": ("name",),
    "PodSchedulingGate": ("name",),
    "ResourceClaim": ("name",),
    "ServicePort": ("port", "protocol"),
    "TopologySpreadConstraint": ("topologyKey", "whenUnsatisfiable"),
    "Volume": ("name",),
    "VolumeDevice": ("devicePath",),
    "VolumeMount": ("mountPath",),
}
# Where a strategic merge patch uses only one of those keys.
_PATCH_KEYS = {
    "ContainerPort": "containerPort",
    "ServicePort": "port",
    "TopologySpreadConstraint": "topologyKey",
}
_RETAIN_KEYS = {("PodSpec", "volumes"), ("DeploymentSpec", "strategy")}
_ATOMIC_IN_APPLY = {("ServiceAccount", "imagePullSecrets"), ("PodStatus", "hostIPs")}
_SETS = {("ObjectMeta", "finalizers"), ("NodeSpec", "podCIDRs")}
_ATOMIC_TYPES = {
    "ConfigMapKeySelector", "FieldsV1", "LabelSelector", "LocalObjectReference", "NodeSelector",
    "NodeSelectorTerm", "ObjectFieldSelector", "ObjectReference", "ResourceFieldSelector",
    "SecretKeySelector", "SecretReference", "TypedLocalObjectReference",
}  # fmt: skip
_ATOMIC_MAPS = {("PodSpec", "nodeSelector"), ("ServiceSpec", "selector")}
_DEFAULT_KEYS: dict[str, dict[str, Any]] = {
    "ContainerPort": {"protocol": "TCP"},
    "ServicePort": {"protocol": "TCP"},
}


@dataclass(frozen=True)
class Shape:
    """How one place in an object merges.

    Attributes:
        hint: the Python type that was read, None where nothing is known.
        atomic: replaced as a whole by server-side apply.
        keys: for a list of objects, what identifies an item in server-side apply.
        patch_key: for a list of objects, what identifies an item in a strategic merge patch.
        is_set: a list of distinct scalars.
        retain_keys: a strategic merge patch may name the keys to keep (`$retainKeys`).
    """

    hint: Any = None
    atomic: bool = False
    keys: tuple[str, ...] = ()
    patch_key: str | None = None
    is_set: bool = False
    retain_keys: bool = False

    @cached_property
    def _fields(self) -> Mapping[str, Shape] | None:
        return struct_fields(self.hint) if is_struct(self.hint) else None

    @cached_property
    def _values(self) -> Shape:
        if typing.get_origin(self.hint) in (dict, Mapping) or self.hint is dict:
            arguments = typing.get_args(self.hint)
            return _shape_of(arguments[1], "", "") if len(arguments) == 2 else UNKNOWN
        return UNKNOWN

    @cached_property
    def items(self) -> Shape:
        """The shape of a list's items."""
        item = item_type(self.hint)
        if item is None:
            return UNKNOWN
        # An item of a keyed list merges, even where its type alone would be replaced.
        return Shape(hint=item, atomic=not self.keys and _is_atomic(item))

    @property
    def is_map(self) -> bool:
        """An open map: its keys are data, not declared fields."""
        return self._fields is None

    def child(self, name: str) -> Shape:
        """The shape under a key of an object."""
        if self._fields is None:
            return self._values
        return self._fields.get(name, UNKNOWN)

    def item_key(self, item: Mapping[str, Any]) -> tuple[Any, ...]:
        """What identifies a list item; a key that is not there has its default."""
        return tuple(item.get(key, self._key_defaults.get(key)) for key in self.keys)

    @cached_property
    def _key_defaults(self) -> Mapping[str, Any]:
        return _DEFAULT_KEYS.get(type_name(item_type(self.hint)), {})


UNKNOWN = Shape()


@cache
def shape_of(kind: Kind) -> Shape:
    """The shape of a kind's objects; unknown where its types cannot be read."""
    return Shape(hint=kind.type)


def strip_optional(hint: Any) -> Any:
    """`T` of `T | None` (and of `T | UnsetType`), anything else as it is."""
    if typing.get_origin(hint) is typing.Annotated:
        return strip_optional(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        left = [one for one in typing.get_args(hint) if one not in (type(None), msgspec.UnsetType)]
        if len(left) == 1:
            return strip_optional(left[0])
    return hint


def is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else ""


def item_type(hint: Any) -> Any:
    """The type of a list's items; None where `hint` is no list of a known type."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (list, tuple) and arguments:
        return strip_optional(arguments[0])
    return None


@cache
def struct_fields(struct: type) -> dict[str, Shape]:
    """The fields of a Struct, by their JSON names."""
    hints = _resolve_hints(struct)
    return {
        encoded: _shape_of(hints[name], struct.__name__, encoded)
        for name, encoded in zip(
            struct.__struct_fields__,  # type: ignore[attr-defined]  # checked by is_struct
            struct.__struct_encode_fields__,  # type: ignore[attr-defined]  # checked by is_struct
            strict=True,
        )
    }


@cache
def _resolve_hints(struct: type) -> dict[str, Any]:
    return typing.get_type_hints(struct, include_extras=True)


def _shape_of(annotation: Any, owner: str, field: str) -> Shape:
    hint = strip_optional(annotation)
    place = (owner, field)
    item = item_type(hint)
    if item is None:
        return Shape(
            hint=hint,
            atomic=_is_atomic(hint) or place in _ATOMIC_MAPS,
            retain_keys=place in _RETAIN_KEYS,
        )
    name = type_name(item)
    keys = ("type",) if name.endswith("Condition") else _KEYS.get(name, ())
    patch_key = _PATCH_KEYS.get(name, keys[0] if keys else None)
    if owner == "ServiceAccount" and field == "imagePullSecrets":
        patch_key = None
    if place in _ATOMIC_IN_APPLY:
        keys = ()
    return Shape(
        hint=hint,
        atomic=not keys and place not in _SETS,
        keys=keys,
        patch_key=patch_key,
        is_set=place in _SETS,
        retain_keys=place in _RETAIN_KEYS,
    )


def _is_atomic(hint: Any) -> bool:
    return type_name(hint) in _ATOMIC_TYPES
