"""Installing, repairing, upgrading and removing, against a real API server of its own."""

from __future__ import annotations

import copy
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.apiserver import ApiServer

from kedge.api.scheme import CONFIG_MAP, DEPLOYMENT, INFERENCE_SERVICE, NAMESPACE, SERVICE
from kedge.cluster.errors import NotFound
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.install import names
from kedge.install.installing import Installation
from kedge.install.kinds import (
    CLUSTER_ROLE_BINDING,
    CUSTOM_RESOURCE_DEFINITION,
    INSTALLED,
    kind_of,
)
from kedge.install.render import render
from kedge.install.target import InstallError
from kedge.install.uninstalling import Removal
from kedge.install.values import Gateway, Switch, Values, Webhook
from kedge.settings.serving import CONFIG_MAP_NAME

pytestmark = pytest.mark.kubernetes

Object = dict[str, Any]
SMALL = Values(runtimes=Switch(enabled=False))


@pytest.fixture(scope="module")
def api(assets: Path) -> Iterator[ApiServer]:
    """An installation is of a whole cluster, so these tests have one of their own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiServer(assets, Path(folder), controllers=True) as it,
    ):
        for namespace in ("default", "kube-node-lease", "kube-public", "kube-system"):
            it.kubectl("wait", "--for=create", "--timeout=60s", "serviceaccount/default",
                       "-n", namespace)  # fmt: skip
        yield it


@pytest.fixture
async def cluster(api: ApiServer) -> AsyncIterator[KubernetesCluster]:
    """Empty before and after."""
    async with KubernetesCluster.from_kubeconfig(api.kubeconfig) as it:
        yield it
        await Removal(it, "kedge", lambda line: None, seconds=60).run()


async def install(cluster: KubernetesCluster, values: Values = SMALL) -> Counter[str]:
    run = Installation(cluster, values, lambda line: None, seconds=60)
    await run.run(wait=False)
    return run.done


async def everything(api: ApiServer) -> dict[str, str]:
    """Every object of every kind that the API server has, by name, with its version."""
    listed = api.kubectl("api-resources", "--verbs=list", "-o", "name", "--cached=false")
    kinds = [kind for kind in listed.split() if kind.split(".")[0] not in _NOT_OURS]
    told = api.kubectl("get", ",".join(kinds), "-A", "-o", "json")
    found, _ = json.JSONDecoder().raw_decode(told)  # Warnings come after it.
    return {
        f"{obj['kind']} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}": obj[
            "metadata"
        ].get("resourceVersion", "")
        for obj in found["items"]
    }


_NOT_OURS = ("events", "leases", "componentstatuses", "apiservices", "ipaddresses")
"""What the cluster's own processes keep writing."""


async def test_everything_is_there_and_nothing_is_left(
    api: ApiServer, cluster: KubernetesCluster
) -> None:
    before = await everything(api)
    done = await install(cluster, Values())
    wanted = render(Values())
    assert done == {"created": len(wanted)}
    for obj in wanted:
        metadata = obj["metadata"]
        await cluster.get(kind_of(obj), metadata["name"], metadata.get("namespace"))

    removed = await Removal(cluster, "kedge", lambda line: None, seconds=60).run()
    assert removed == len(wanted)
    left = set(await everything(api)) - set(before)
    # Ranges that the API server notes for the addresses it hands out.
    assert left == set()


async def test_a_second_run_writes_nothing(api: ApiServer, cluster: KubernetesCluster) -> None:
    await install(cluster)
    before = await _versions(cluster)
    done = await install(cluster)
    assert set(done) == {"unchanged", "kept"}
    assert await _versions(cluster) == before


async def _versions(cluster: KubernetesCluster) -> dict[str, str]:
    """Of what no other process of the cluster writes."""
    found = {}
    for obj in render(SMALL):
        metadata = obj["metadata"]
        now = await cluster.get(kind_of(obj), metadata["name"], metadata.get("namespace"))
        if obj["kind"] not in ("Deployment", "PodDisruptionBudget"):  # their status
            found[f"{obj['kind']} {metadata['name']}"] = now["metadata"]["resourceVersion"]
    return found


async def test_pods_are_let_in_by_the_restricted_profile(
    api: ApiServer, cluster: KubernetesCluster
) -> None:
    await install(cluster)
    namespace = await cluster.get(NAMESPACE, "kedge")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    api.kubectl("wait", "-n", "kedge", "--for=create", "--timeout=30s", "pod", "-l",
                "app.kubernetes.io/component=gateway")  # fmt: skip
    told = api.kubectl("get", "events", "-n", "kedge", "-o", "jsonpath={.items[*].message}")
    assert "violates PodSecurity" not in told


async def test_what_was_changed_is_mended_and_the_configuration_is_kept(
    cluster: KubernetesCluster,
) -> None:
    await install(cluster)
    await cluster.patch(
        SERVICE, names.GATEWAY, {"spec": {"selector": {"app": "other"}}}, namespace="kedge"
    )
    await cluster.delete(CLUSTER_ROLE_BINDING, names.GATEWAY)
    ours = {"data": {"ingress": '{"ingressDomain": "ours.example"}'}}
    await cluster.patch(CONFIG_MAP, CONFIG_MAP_NAME, ours, namespace="kedge")

    done = await install(cluster)
    assert (done["created"], done["kept"]) == (1, 1)
    service = await cluster.get(SERVICE, names.GATEWAY, "kedge")
    assert service["spec"]["selector"][names.COMPONENT] == "gateway"
    config = await cluster.get(CONFIG_MAP, CONFIG_MAP_NAME, "kedge")
    assert "ours.example" in config["data"]["ingress"]


async def test_an_older_release_is_brought_up_to_date(cluster: KubernetesCluster) -> None:
    """Its objects differ in what can be changed, and in what cannot; some are no more."""
    older = [copy.deepcopy(obj) for obj in render(SMALL)]
    for obj in older:
        if obj["kind"] == "Namespace":
            obj["metadata"]["annotations"] = {names.MADE_NAMESPACE: "true"}
        if obj["kind"] == "Deployment":
            obj["spec"]["selector"]["matchLabels"] = {"app": obj["metadata"]["name"]}
            obj["spec"]["template"]["metadata"]["labels"]["app"] = obj["metadata"]["name"]
        if obj["kind"] == "ClusterRoleBinding":
            obj["roleRef"]["name"] = "view"
        if obj["kind"] == "CustomResourceDefinition":
            obj["spec"]["versions"][0].pop("additionalPrinterColumns", None)
    gone = copy.deepcopy(next(obj for obj in older if obj["kind"] == "Service"))
    gone["metadata"]["name"] = "kedge-older"
    for obj in [*older, gone]:
        for _ in range(20):
            try:
                await cluster.apply(kind_of(obj), obj, field_manager="kedge-install")
                break
            except NotFound:  # its definition is not served yet
                await _moment()

    done = await install(cluster)
    assert done["removed"] == 1
    assert done["replaced"] == 4  # two Deployments, two ClusterRoleBindings
    for obj in render(SMALL):
        if obj["kind"] == "Deployment":
            now = await cluster.get(DEPLOYMENT, obj["metadata"]["name"], "kedge")
            assert now["spec"]["selector"] == obj["spec"]["selector"]
    assert set(await install(cluster)) == {"unchanged", "kept"}


@pytest.mark.parametrize("share", [0.15, 0.5, 0.9])
async def test_a_half_installation_is_finished_and_can_be_removed(
    api: ApiServer, cluster: KubernetesCluster, share: float
) -> None:
    """Whatever an earlier run, of this release or the last, came to before it was cut off."""
    wanted = render(SMALL)
    for obj in wanted[: int(len(wanted) * share)]:
        older = copy.deepcopy(obj)
        older["metadata"].setdefault("annotations", {})["example.com/release"] = "older"
        if obj["kind"] == "Namespace":
            older["metadata"]["annotations"][names.MADE_NAMESPACE] = "true"
        for _ in range(20):
            try:
                await cluster.apply(kind_of(obj), older, field_manager="kedge-install")
                break
            except NotFound:  # its definition is not served yet
                await _moment()
    done = await install(cluster)
    assert done["created"] == len(wanted) - int(len(wanted) * share)
    assert set(await install(cluster)) == {"unchanged", "kept"}


async def _moment() -> None:
    import asyncio

    await asyncio.sleep(0.5)


async def test_parts_that_are_switched_off_go(cluster: KubernetesCluster) -> None:
    await install(cluster)
    fewer = Values(
        runtimes=Switch(enabled=False),
        network_policy=Switch(enabled=False),
        webhook=Webhook(enabled=False),
        gateway=Gateway(replicas=3),
    )
    done = await install(cluster, fewer)
    assert done["removed"] == 3  # the policy, the webhook and its Service
    deployment = await cluster.get(DEPLOYMENT, names.GATEWAY, "kedge")
    assert deployment["spec"]["replicas"] == 3


async def test_definitions_of_others_stay_as_they_are(
    api: ApiServer, cluster: KubernetesCluster
) -> None:
    theirs = [
        copy.deepcopy(obj)
        for obj in render(SMALL)
        if obj["kind"] == "CustomResourceDefinition" and "gateway" in obj["metadata"]["name"]
    ]
    for obj in theirs:
        obj["metadata"]["labels"] = {"theirs": "true"}
        await cluster.apply(CUSTOM_RESOURCE_DEFINITION, obj, field_manager="other")
    versions = api.kubectl("get", "crd", "-l", "theirs=true", "-o", _VERSIONS)
    done = await install(cluster)
    assert done["created"] == len(render(SMALL)) - 3
    await Removal(cluster, "kedge", lambda line: None, seconds=60).run()
    assert api.kubectl("get", "crd", "-l", "theirs=true", "-o", _VERSIONS) == versions
    for obj in theirs:
        await cluster.delete(CUSTOM_RESOURCE_DEFINITION, obj["metadata"]["name"])


_VERSIONS = (
    "jsonpath={range .items[*]}{.metadata.name} {.metadata.generation} {.metadata.labels}{end}"
)


async def test_services_can_outlive_an_installation(cluster: KubernetesCluster) -> None:
    await install(cluster)
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "kept", "namespace": "default"},
        "spec": {"predictor": {"containers": [{"name": "kserve-container", "image": "a/b"}]}},
    }
    await cluster.create(INFERENCE_SERVICE, service)
    removal = Removal(cluster, "kedge", lambda line: None, keep_crds=True, seconds=60)
    assert await removal.services() == ["default/kept"]
    await removal.run()
    await cluster.get(INFERENCE_SERVICE, "kept", "default")
    with pytest.raises(NotFound):
        await cluster.get(NAMESPACE, "kedge")
    await install(cluster)
    await cluster.get(INFERENCE_SERVICE, "kept", "default")


async def test_a_namespace_that_was_there_before_stays(cluster: KubernetesCluster) -> None:
    metadata = {"name": "kedge", "labels": {"team": "ml"}}
    await cluster.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    await install(cluster)
    await Removal(cluster, "kedge", lambda line: None, seconds=60).run()
    namespace = await cluster.get(NAMESPACE, "kedge")
    assert namespace["metadata"]["labels"]["team"] == "ml"
    assert names.INSTALLATION not in namespace["metadata"]["labels"]
    await cluster.delete(NAMESPACE, "kedge")


async def test_a_namespace_on_its_way_out_is_waited_for(cluster: KubernetesCluster) -> None:
    await install(cluster)
    await cluster.delete(NAMESPACE, "kedge")
    done = await install(cluster)
    assert done["created"] > 0
    assert (await cluster.get(NAMESPACE, "kedge"))["status"]["phase"] == "Active"


async def test_whoever_may_not_is_told_what(api: ApiServer, cluster: KubernetesCluster) -> None:
    api.kubectl("create", "serviceaccount", "nobody", "-n", "default")
    kubeconfig = api.kubeconfig_of("nobody", "default")
    async with KubernetesCluster.from_kubeconfig(kubeconfig) as theirs:
        with pytest.raises(InstallError, match=r"create deployments\.apps in namespace kedge"):
            await install(theirs)


async def test_a_second_installation_and_kserve_are_refused(cluster: KubernetesCluster) -> None:
    await install(cluster)
    with pytest.raises(InstallError, match="installed in namespace kedge"):
        await install(cluster, Values(namespace="other"))
    labels = {"control-plane": "kserve-controller-manager"}
    pod = {"containers": [{"name": "manager", "image": "kserve/controller"}]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "kserve-controller-manager", "namespace": "default", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    await cluster.create(DEPLOYMENT, deployment)
    with pytest.raises(InstallError, match="KServe's controller runs here"):
        await install(cluster)
    await cluster.delete(DEPLOYMENT, "kserve-controller-manager", "default")


def test_installed_kinds_are_all_rendered() -> None:
    rendered = {obj["kind"] for values in (Values(),) for obj in render(values)}
    assert rendered == {kind.kind for kind in INSTALLED} - {"Secret"}
