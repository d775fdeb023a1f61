"""What a tool that keeps manifests applied sees: nothing to do, however often it looks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from tests.golden.rendering import load
from tests.kubernetes.standins import all_goes_well, eventually
from tests.kubernetes.test_reconciling import GOLDEN, iris, ready
from tests.kubernetes.world import World

from kedge.api.scheme import DEPLOYMENT, HTTP_ROUTE, INFERENCE_SERVICE, SERVICE, kind_of
from kedge.cluster.base import Object, PatchType
from kedge.cluster.kubernetes import KubernetesCluster

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.usefixtures("controller"),
    pytest.mark.timeout(240),
]
CASES = ["knative", "standard-sklearn", "transformer-explainer", "canary", "hpa"]
CHILDREN = (DEPLOYMENT, SERVICE, HTTP_ROUTE)


def manifests(case: str, namespace: str, way: str = "client") -> list[Object]:
    """What an author keeps in a repository."""
    given = [iris()] if case == "knative" else load(GOLDEN / f"{case}.in.yaml")
    for obj in given:
        metadata = obj["metadata"]
        metadata["namespace"] = namespace
        if not metadata.get("annotations"):
            # Both are kubectl's and Kubernetes' own: client-side apply remembers an empty map where
            # none was given; where a server-side one says an empty map, all is written anew.
            metadata.pop("annotations", None)
            if way == "client":
                metadata["annotations"] = {}
    return given


async def versions(cluster: KubernetesCluster, namespace: str) -> dict[str, str]:
    """Every object that Kedge writes, status and all."""
    kinds = (INFERENCE_SERVICE, SERVICE, HTTP_ROUTE, DEPLOYMENT)
    return {
        f"{kind.kind} {obj['metadata']['name']}": obj["metadata"]["resourceVersion"]
        for kind in kinds
        for obj in (await cluster.list(kind, namespace)).items
    }


async def settled(cluster: KubernetesCluster, namespace: str) -> dict[str, str]:
    """The versions, once nobody has written anything for a while."""

    async def look() -> dict[str, str]:
        before = await versions(cluster, namespace)
        await asyncio.sleep(2)
        return before if await versions(cluster, namespace) == before else {}

    return await eventually(look, "rest")


@pytest.mark.parametrize("way", ["client", "server"])
@pytest.mark.parametrize("case", CASES)
async def test_a_reconciled_service_does_not_differ_from_its_manifest(
    world: World, cluster: KubernetesCluster, namespace: str, tmp_path: Path, case: str, way: str
) -> None:
    given = manifests(case, namespace, way)
    file = tmp_path / "manifest.yaml"
    file.write_text(yaml.safe_dump_all(given))
    how = ["--server-side"] if way == "server" else []

    def kubectl(*arguments: str) -> str:
        """As whoever has the manifests runs it; `diff` ends with 1 where it finds something."""
        return world.api.kubectl(*arguments, *how, "-f", str(file), check=True)

    kubectl("apply")
    async with all_goes_well(cluster, namespace):
        for obj in given:
            if kind_of(obj) == INFERENCE_SERVICE:
                await ready(cluster, obj["metadata"]["name"], namespace)
        before = await settled(cluster, namespace)
        assert kubectl("diff") == ""
        if way == "client":
            assert world.api.kubectl("diff", "--server-side", "-f", str(file)) == ""
        said = kubectl("apply")
        assert way == "server" or said.count("unchanged") == len(given), said
        assert await settled(cluster, namespace) == before


async def test_children_are_repaired_and_keep_what_others_add(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    """Labels, annotations, and a container beside the server, as a mesh or an agent brings it."""
    world.apply(*manifests("standard-sklearn", namespace))
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "iris", namespace)
        await settled(cluster, namespace)
        name = "iris-predictor"
        for kind in CHILDREN:
            theirs = {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {"theirs": "1"},
                    "annotations": {"example.com/theirs": "1"},
                },
            }
            if kind is DEPLOYMENT:
                sidecar = {"name": "agent", "image": "example.com/agent:1"}
                theirs["spec"] = {"template": {"spec": {"containers": [sidecar]}}}
            await cluster.apply(kind, theirs, field_manager="other")
        wrong = [
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "wrong"}
        ]
        await cluster.patch(DEPLOYMENT, name, wrong, namespace=namespace, type=PatchType.JSON)
        port = [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 9}]
        await cluster.patch(SERVICE, name, port, namespace=namespace, type=PatchType.JSON)

        async def repaired() -> bool:
            deployment = await cluster.get(DEPLOYMENT, name, namespace)
            service = await cluster.get(SERVICE, name, namespace)
            containers = deployment["spec"]["template"]["spec"]["containers"]
            images = {one["name"]: one["image"] for one in containers}
            port = service["spec"]["ports"][0]["targetPort"]
            return images["kserve-container"] != "wrong" and bool(port == 8080)

        await eventually(repaired, "repair")
        await settled(cluster, namespace)
        for kind in CHILDREN:
            metadata = (await cluster.get(kind, name, namespace))["metadata"]
            assert metadata["labels"]["theirs"] == "1", kind.kind
            assert metadata["annotations"]["example.com/theirs"] == "1", kind.kind
        deployment = await cluster.get(DEPLOYMENT, name, namespace)
        containers = deployment["spec"]["template"]["spec"]["containers"]
        assert {"kserve-container", "agent"} == {one["name"] for one in containers}


def test_a_service_is_applied_as_it_was_by_every_kubectl(world: World, namespace: str) -> None:
    """Definitions carry no schema default: nothing is written back where no controller runs."""
    given = iris("plain")
    given["metadata"]["namespace"] = namespace
    said = world.api.kubectl(
        "create", "--dry-run=server", "-o", "json", "-f", "-", given=json.dumps(given)
    )
    stored, _ = json.JSONDecoder().raw_decode(said)
    assert stored["spec"] == given["spec"]
