"""The "restricted" Pod Security profile, as the API server judges it; sizes of definitions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.golden.rendering import load
from tests.kubernetes.world import World

from kedge.api.scheme import DEPLOYMENT
from kedge.install.render import render as render_installation
from kedge.install.values import Gateway, Values
from kedge.install.verifying import make_probe
from kedge.modes.render import render

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]
GOLDEN = Path(__file__).parents[1] / "golden"
LARGEST = 200_000
"""Bytes of a definition: client-side apply keeps a copy in an annotation of at most 262,144."""


@pytest.fixture(scope="module")
def strict(world: World) -> Iterator[str]:
    """A namespace that lets no other pod in."""
    name = "restricted"
    world.api.kubectl("create", "namespace", name)
    world.api.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    world.api.kubectl("delete", "namespace", name, "--wait=false")


def let_in(world: World, namespace: str, spec: dict[str, Any]) -> str:
    """What the API server says to a pod."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "judged", "namespace": namespace},
        "spec": {**spec, "restartPolicy": "Always"},
    }
    return world.api.kubectl(
        "create", "--dry-run=server", "--validate=false", "-f", "-",
        given=json.dumps(pod), check=False,
    )  # fmt: skip


def pod_specs(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        obj["metadata"]["name"]: obj["spec"]["template"]["spec"]
        for obj in objects
        if obj["kind"] == DEPLOYMENT.kind
    }


@pytest.mark.parametrize(
    "values", [Values(), Values(gateway=Gateway(tls_secret="wildcard"))], ids=["plain", "tls"]
)
def test_shipped_pods_are_let_in(world: World, strict: str, values: Values) -> None:
    specs = pod_specs(render_installation(values))
    assert len(specs) == 2
    for name, spec in specs.items():
        assert "created" in let_in(world, strict, spec), name


def test_the_probe_is_let_in(world: World, strict: str) -> None:
    specs = pod_specs(list(render([make_probe(Values())]).objects))
    for name, spec in specs.items():
        assert "created" in let_in(world, strict, spec), name


@pytest.mark.parametrize("runtime", sorted(
    one["metadata"]["name"]
    for path in (Path(__file__).parents[2] / "src/kedge/manifests/runtimes").glob("*.yaml")
    for one in load(path)
))  # fmt: skip
def test_pods_of_every_shipped_runtime_are_let_in(world: World, strict: str, runtime: str) -> None:
    """In both modes, with the container that brings the model."""
    for mode in ("Standard", "Knative"):
        service = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": "judged",
                "namespace": strict,
                "annotations": {"serving.kserve.io/deploymentMode": mode},
            },
            "spec": {
                "predictor": {
                    "model": {
                        "runtime": runtime,
                        "modelFormat": {"name": _format(runtime)},
                        "storageUri": "gs://bucket/model",
                    }
                }
            },
        }
        rendered = render([service], namespace=strict)
        assert not rendered.errors
        (spec,) = pod_specs(list(rendered.objects)).values()
        assert spec["initContainers"]
        assert "created" in let_in(world, strict, spec)


def _format(runtime: str) -> str:
    folder = Path(__file__).parents[2] / "src/kedge/manifests/runtimes"
    for path in folder.glob("*.yaml"):
        for one in load(path):
            if one["metadata"]["name"] == runtime:
                return str(one["spec"]["supportedModelFormats"][0]["name"])
    raise LookupError(runtime)


def test_a_pod_that_is_not_hardened_is_kept_out(world: World, strict: str) -> None:
    """The namespace judges: the tests above mean something."""
    said = let_in(world, strict, {"containers": [{"name": "a", "image": "b"}]})
    assert "violates PodSecurity" in said


def test_definitions_are_small_and_apply_from_the_client(world: World, tmp_path: Path) -> None:
    """As written, and with all blanks that a client's copy of it has."""
    definitions = [
        obj for obj in render_installation(Values()) if obj["kind"] == "CustomResourceDefinition"
    ]
    assert len(definitions) >= 4
    for definition in definitions:
        name = definition["metadata"]["name"]
        assert len(json.dumps(definition)) < LARGEST, name
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(definition))
        if "gateway.networking" in name:
            continue  # Here a smaller one of another name's form is in its place.
        before = world.get("crd", name)
        try:
            world.api.kubectl("apply", "-f", str(file))
            assert "unchanged" in world.api.kubectl("apply", "-f", str(file))
        finally:
            world.api.kubectl("annotate", "crd", name,
                              "kubectl.kubernetes.io/last-applied-configuration-")  # fmt: skip
        assert before["metadata"]["uid"] == world.get("crd", name)["metadata"]["uid"]
