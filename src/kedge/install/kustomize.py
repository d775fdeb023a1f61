"""A Kustomize base and its overlays: what all have alike, and what one has besides."""

from __future__ import annotations

from kedge.cluster.base import Object
from kedge.install.render import render, to_yaml
from kedge.install.values import Gateway, Kubeflow, Values

OVERLAYS: dict[str, Values] = {
    "cluster-wide": Values(),
    "single-namespace": Values(watch_namespace="kedge", gateway=Gateway(service_type="ClusterIP")),
    "kubeflow": Values(kubeflow=Kubeflow(enabled=True), gateway=Gateway(service_type="ClusterIP")),
}
_HEAD = """\
# Written by `python -m kedge.install.write deploy`; do not edit. Write an overlay of your own.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
"""


def make_kustomizations() -> dict[str, str]:
    """The files by path."""
    rendered = {name: render(values) for name, values in OVERLAYS.items()}
    common = [obj for obj in rendered["cluster-wide"] if _in_all(obj, rendered)]
    files = {
        "base/kustomization.yaml": f"{_HEAD}  - crds.yaml\n  - objects.yaml\n",
        "base/crds.yaml": to_yaml([obj for obj in common if _is_crd(obj)]),
        "base/objects.yaml": to_yaml([obj for obj in common if not _is_crd(obj)]),
    }
    for name, objects in rendered.items():
        own = [obj for obj in objects if obj not in common]
        folder = f"overlays/{name}"
        files[f"{folder}/kustomization.yaml"] = f"{_HEAD}  - ../../base\n  - objects.yaml\n"
        files[f"{folder}/objects.yaml"] = to_yaml(own)
    return files


def _is_crd(obj: Object) -> bool:
    return bool(obj["kind"] == "CustomResourceDefinition")


def _in_all(obj: Object, rendered: dict[str, list[Object]]) -> bool:
    return all(obj in objects for objects in rendered.values())
