"""Types as JSON schema: structural for a CustomResourceDefinition, by reference for OpenAPI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kedge.api.scheme import Kind
from kedge.api.shapes import Field, Free, ListOf, MapOf, Scalar, Shape, StructOf, struct_shape

_PREFIXES = {
    "lightkube.models.meta_v1": "io.k8s.apimachinery.pkg.apis.meta.v1",
    "kedge.api.gateway.types": "io.k8s.networking.gateway.v1",
    "kedge.api.servingruntime.types": "io.kserve.serving.v1alpha1",
    "kedge.api.clusterstoragecontainer.types": "io.kserve.serving.v1alpha1",
}
_INT_OR_STRING = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
}
_QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
COMPONENTS = "#/components/schemas/"
"""Where an OpenAPI v3 document has its types."""

OPAQUE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def openapi(kind: Kind) -> dict[str, Any]:
    """The kind as one structural schema without references, with our own types described."""
    return SchemaWriter(describe_core=False).struct(kind.type)


def definitions(kinds: Iterable[Kind], ref_prefix: str = COMPONENTS) -> dict[str, dict[str, Any]]:
    """Every type that the kinds use, by its Kubernetes name.

    `ref_prefix` is `#/definitions/` for OpenAPI v2.
    """
    writer = SchemaWriter(ref_prefix=ref_prefix)
    for kind in kinds:
        name = definition_name(kind.type)
        writer.reference(kind.type)
        writer.definitions[name]["x-kubernetes-group-version-kind"] = [
            {"group": kind.group, "version": kind.version, "kind": kind.kind}
        ]
    return writer.definitions


def definition_name(cls: type[msgspec.Struct]) -> str:
    """The name of a type in an OpenAPI document: `io.k8s.api.core.v1.Container`."""
    module = cls.__module__
    if module in _PREFIXES:
        prefix = _PREFIXES[module]
    elif module.startswith("lightkube.models."):
        group, _, version = module.rpartition(".")[2].rpartition("_")
        prefix = f"io.k8s.api.{group}.{version}"
    else:
        prefix = "io.kserve.serving.v1beta1"
    return f"{prefix}.{cls.__name__}"


class SchemaWriter:
    """Writes types as JSON schema.

    Args:
        ref_prefix: write each type once, into `definitions`, and refer to it; inline when empty.
        describe_core: whether to give Kubernetes' own descriptions besides ours.
        opaque: types whose content is left open.
    """

    def __init__(
        self,
        *,
        ref_prefix: str = "",
        describe_core: bool = True,
        opaque: frozenset[str] = frozenset(),
    ) -> None:
        self.definitions: dict[str, dict[str, Any]] = {}
        self._ref_prefix = ref_prefix
        self._describe_core = describe_core
        self._opaque = opaque
        self._open: list[type[msgspec.Struct]] = []

    def reference(self, cls: type[msgspec.Struct]) -> dict[str, Any]:
        name = definition_name(cls)
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name].update(self.struct(cls))
        return {"$ref": self._ref_prefix + name}

    def struct(self, cls: type[msgspec.Struct]) -> dict[str, Any]:
        shape = struct_shape(cls)
        if cls in self._open and not self._ref_prefix:
            return dict(OPAQUE)
        self._open.append(cls)
        schema: dict[str, Any] = {"type": "object"}
        own = cls.__module__.startswith("kedge.")
        if self._describes(own) and shape.description:
            schema["description"] = shape.description
        schema["properties"] = {name: self._field(field) for name, field in shape.fields.items()}
        required = sorted(name for name, field in shape.fields.items() if field.required)
        if required:
            schema["required"] = required
        if shape.preserve_unknown:
            schema["x-kubernetes-preserve-unknown-fields"] = True
        self._open.pop()
        return schema

    def _describes(self, own: bool) -> bool:
        return own or self._describe_core

    def _field(self, field: Field) -> dict[str, Any]:
        schema = self._shape(field.shape)
        if "$ref" in schema and self._ref_prefix == COMPONENTS:
            schema = {"allOf": [schema]}
        if self._describes(field.own) and field.description:
            schema["description"] = field.description
        if self._ref_prefix:
            schema.update(_patching(field))
        elif field.merge_keys and set(field.merge_keys) <= _required(schema.get("items")):
            schema["x-kubernetes-list-type"] = "map"
            schema["x-kubernetes-list-map-keys"] = list(field.merge_keys)
        return schema

    def _shape(self, shape: Shape) -> dict[str, Any]:
        match shape:
            case Scalar():
                return _scalar_schema(shape)
            case StructOf(cls) if cls.__name__ in self._opaque:
                return dict(OPAQUE)
            case StructOf(cls):
                return self.reference(cls) if self._ref_prefix else self.struct(cls)
            case ListOf(items, min_items):
                schema: dict[str, Any] = {"type": "array", "items": self._shape(items)}
                return {**schema, "minItems": min_items} if min_items else schema
            case MapOf(values):
                return {"type": "object", "additionalProperties": self._shape(values)}
            case Free(must_be_object):
                return (
                    dict(OPAQUE)
                    if must_be_object
                    else {"x-kubernetes-preserve-unknown-fields": True}
                )


def _patching(field: Field) -> dict[str, Any]:
    """How clients merge a list, in the words of a kube-apiserver's own document."""
    if not field.merge_keys:
        return {} if field.default is None else {"default": field.default}
    return {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(field.merge_keys),
        "x-kubernetes-patch-merge-key": field.merge_keys[0],
        "x-kubernetes-patch-strategy": "merge",
    }


def _required(items: Any) -> set[str]:
    """Fields that every entry has: a CustomResourceDefinition needs its map keys among them.

    Defaults would do, but they would be written into what users applied.
    """
    return set((items or {}).get("required", ()))


def _scalar_schema(shape: Scalar) -> dict[str, Any]:
    if shape.type == "quantity":
        return {**_INT_OR_STRING, "pattern": _QUANTITY_PATTERN}
    if shape.type == "int-or-string":
        return dict(_INT_OR_STRING)
    constraints = {
        "format": shape.format,
        "enum": list(shape.enum),
        "pattern": shape.pattern,
        "minimum": shape.minimum,
        "maximum": shape.maximum,
        "minLength": shape.min_length,
        "maxLength": shape.max_length,
    }
    return {
        "type": shape.type,
        **{name: value for name, value in constraints.items() if value not in ("", [], None)},
    }
