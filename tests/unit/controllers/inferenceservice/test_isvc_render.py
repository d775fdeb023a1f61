"""What `kedge render` shows is what the controllers come to."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from tests.unit.controllers.inferenceservice.world import NS, World

from kedge.api import legacy
from kedge.api.scheme import INFERENCE_SERVICE, kind_of
from kedge.cluster.errors import NotFound
from kedge.controllers.inferenceservice.applier import covers
from kedge.controllers.inferenceservice.names import AUTOSCALED
from kedge.install.manifests import shipped
from kedge.modes.render import render
from kedge.settings.serving import CONFIG_MAP_NAME, ServingConfig

GOLDEN = Path(__file__).parents[3] / "golden"
CASES = [
    "standard-sklearn", "knative-local-path", "transformer-explainer", "custom-grpc", "canary",
    "collocation", "pvc", "art-explainer", "hpa", "s3-service-account",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_rendered_is_reconciled(case: str) -> None:
    world = World()
    objects = [
        legacy.convert(obj)
        for obj in yaml.safe_load_all((GOLDEN / f"{case}.in.yaml").read_text())
        if obj
    ]
    world.config = ServingConfig.default()
    services = []
    for obj in objects:
        kind = kind_of(obj)
        assert kind is not None
        if kind.namespaced:
            obj["metadata"]["namespace"] = NS
        if obj["metadata"]["name"] == CONFIG_MAP_NAME:
            world.config = ServingConfig.from_config_map(obj)
        if kind == INFERENCE_SERVICE:
            services.append(obj)
        await world.add((kind, obj))
    await world.add_runtimes()
    await world.add_storage_containers()
    expected = render(objects, config=world.config).objects
    for service in services:
        await world.settle(service["metadata"]["name"], rounds=20)
    made = set()
    for obj in expected:
        kind = kind_of(obj)
        assert kind is not None
        made.add((kind.plural, obj["metadata"]["name"]))
        try:
            live = await world.get(kind, obj["metadata"]["name"])
        except NotFound:
            pytest.fail(f"{kind} {obj['metadata']['name']} is rendered but not made")
        if AUTOSCALED in (obj["metadata"].get("labels") or {}):
            obj["spec"].pop("replicas")
        assert covers(live["spec"], obj["spec"]), obj["metadata"]["name"]
    assert await world.children() == made


def test_a_manifest_is_instead_of_what_is_shipped_by_that_name() -> None:
    """As `kubectl get -o yaml` gives a cluster's own runtimes and storage containers."""
    own = copy.deepcopy([*shipped("runtimes"), *shipped("storagecontainers")])
    for obj in own:
        spec = obj["spec"]
        for container in spec.get("containers") or [spec["container"]]:
            container["image"] = f"registry.example/{container['image']}"
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "https://storage.example/m.joblib"}
    service = {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {"name": "iris"},
        "spec": {"predictor": {"model": model}},
    }
    rendered = render([*own, service])
    assert rendered.errors == []
    pod = next(obj for obj in rendered.objects if obj["kind"] == "Deployment")["spec"]["template"]
    every = [*pod["spec"]["containers"], *pod["spec"]["initContainers"]]
    assert all(one["image"].startswith("registry.example/") for one in every), every
