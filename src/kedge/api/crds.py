"""CustomResourceDefinitions, made from the types.

`python -m kedge.api.crds` writes them into `kedge/manifests/crds`. They are structural, hold no
defaults (those would be written into what users applied), and stay small enough for an annotation:
what is rarely written or written several times over is left open here (`_OPAQUE`, `_THIN`) and
checked by admission, which knows the whole type.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kedge.api.columns import COLUMNS
from kedge.api.inferenceservice.types import (
    AutoScalingSpec,
    CanarySpec,
    FrameworkSpec,
    ModelSpec,
    PredictorSpec,
    WorkerSpec,
)
from kedge.api.openapi import OPAQUE, SchemaWriter
from kedge.api.podspec import PodSpecFields
from kedge.api.scheme import KINDS, SERVING_GROUP, Kind
from kedge.api.servingruntime.types import RuntimeWorkerSpec
from kedge.api.shapes import QUANTITY, Shape, struct_shape

FOLDER = Path(__file__).parent.parent / "manifests" / "crds"
CRD_KINDS = tuple(kind for kind in KINDS if kind.group == SERVING_GROUP)

_OPAQUE = frozenset(
    {
        "Affinity", "EphemeralVolumeSource", "HorizontalPodAutoscalerBehavior", "Lifecycle",
        "PodDNSConfig", "PodSecurityContext", "Probe", "ProjectedVolumeSource", "SecurityContext",
        "TopologySpreadConstraint", "EvictionResponder",
    }
)  # fmt: skip
_VOLUME_SOURCES = frozenset(
    {"configMap", "emptyDir", "hostPath", "image", "name", "persistentVolumeClaim", "secret"}
)
_THIN = (FrameworkSpec, WorkerSpec, RuntimeWorkerSpec, CanarySpec)


class _CrdWriter(SchemaWriter):
    """Writes Kubernetes' own large or repeated types as open objects."""

    def __init__(self) -> None:
        super().__init__(describe_core=False, opaque=_OPAQUE)
        self._in_canary = False

    def struct(self, cls: type[msgspec.Struct]) -> dict[str, Any]:
        if cls is CanarySpec:
            self._in_canary = True
            schema = super().struct(cls)
            self._in_canary = False
            return schema
        if self._in_canary and cls in (AutoScalingSpec, FrameworkSpec):
            return dict(OPAQUE)
        if cls in _THIN or (self._in_canary and cls in (PredictorSpec, ModelSpec)):
            return self._thin(cls)
        schema = super().struct(cls)
        if issubclass(cls, PodSpecFields):
            schema["properties"]["initContainers"] = {"type": "array", "items": dict(OPAQUE)}
        if cls.__name__ == "Volume":
            schema["properties"] = {
                name: source if name in _VOLUME_SOURCES else dict(OPAQUE)
                for name, source in schema["properties"].items()
            }
        return schema

    def _shape(self, shape: Shape) -> dict[str, Any]:
        schema = super()._shape(shape)
        if shape == QUANTITY:
            del schema["pattern"]
        return schema

    def _thin(self, cls: type[msgspec.Struct]) -> dict[str, Any]:
        """The fields that Kedge's own types add; what they inherit stays open."""
        shape = struct_shape(cls)
        own = _own_fields(cls)
        schema: dict[str, Any] = {"type": "object", "description": shape.description}
        schema["properties"] = {
            name: self._field(field) for name, field in shape.fields.items() if name in own
        }
        schema["x-kubernetes-preserve-unknown-fields"] = True
        return schema


def _own_fields(cls: type[msgspec.Struct]) -> frozenset[str]:
    bases = [base for base in cls.__mro__ if base.__module__.startswith("kedge.")]
    bases = [base for base in bases if base.__module__ != "kedge.api.podspec"]
    return frozenset(name for base in bases for name in inspect.get_annotations(base))


def make_crd(kind: Kind) -> dict[str, Any]:
    """The kind's CustomResourceDefinition."""
    schema = _CrdWriter().struct(kind.type)
    schema["properties"]["metadata"] = {"type": "object"}
    version: dict[str, Any] = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    if kind in COLUMNS:
        version["additionalPrinterColumns"] = [column.to_dict() for column in COLUMNS[kind]]
    if kind.status:
        version["subresources"] = {"status": {}}
    names: dict[str, Any] = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
    }


def file_name(kind: Kind) -> str:
    return f"{kind.group}_{kind.plural}.yaml"


class _Dumper(yaml.SafeDumper):
    """Block style, and without anchors: every part is written out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render(kind: Kind) -> str:
    """The kind's manifest file."""
    header = "# Written by `python -m kedge.api.crds` from the types in kedge/api; do not edit.\n"
    return header + yaml.dump(
        make_crd(kind), Dumper=_Dumper, sort_keys=False, width=100, default_flow_style=None
    )


def main() -> int:
    """Write all manifests; the exit status is 1 when one of them was out of date."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    changed = False
    for kind in CRD_KINDS:
        path, text = FOLDER / file_name(kind), render(kind)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed = True
            print(f"{path.name}: {len(text)} bytes")
    return int(changed)


if __name__ == "__main__":
    sys.exit(main())
