"""What a cluster may refuse or lack: each is survived, and shown where the user looks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.apiserver import ApiServer
from tests.golden.rendering import load
from tests.kubernetes.standins import all_goes_well, condition, eventually, find
from tests.kubernetes.test_reconciling import GOLDEN, iris, ready
from tests.kubernetes.world import HOME, ControllerProcess, World, prepare, until

from kedge.api.crds import make_crd
from kedge.api.scheme import GATEWAY, HTTP_ROUTE, INFERENCE_SERVICE, SERVICE
from kedge.cluster.base import Object
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.install.rbac import CONTROLLER_RULES, Rule, make_controller_rights
from kedge.settings.installation import CONTROLLER

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]


async def told(cluster: KubernetesCluster, name: str, namespace: str, word: str) -> str:
    """The first condition that says it."""

    async def look() -> str:
        found = await cluster.get(INFERENCE_SERVICE, name, namespace)
        for one in (found.get("status") or {}).get("conditions") or ():
            if word in str(one.get("message", "")):
                return str(one["message"])
        return ""

    try:
        return await eventually(look, f"a condition with {word!r}", 40)
    except AssertionError as error:
        found = await cluster.get(INFERENCE_SERVICE, name, namespace)
        raise AssertionError(f"{error}: {found.get('status')}") from None


@pytest.mark.usefixtures("controller")
async def test_where_keda_is_absent_the_status_names_it(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    given = load(GOLDEN / "keda.in.yaml")
    for one in given:
        one["metadata"].pop("namespace", None)
    world.apply(*given, namespace=namespace)
    async with all_goes_well(cluster, namespace):
        said = await told(cluster, "busy", namespace, "ScaledObject")
    assert "KEDA" in said or "scaledobjects" in said


@pytest.mark.usefixtures("controller")
async def test_a_quota_is_named(world: World, cluster: KubernetesCluster, namespace: str) -> None:
    world.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few"},
            "spec": {"hard": {"services": "0"}},
        },
        namespace=namespace,
    )
    world.api.kubectl(
        "wait", "--for=jsonpath={.status.hard.services}=0", "quota/few", "-n", namespace
    )
    world.apply(iris(), namespace=namespace)
    said = await told(cluster, "iris", namespace, "quota")
    assert "few" in said
    world.api.kubectl("delete", "quota", "few", "-n", namespace)
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "iris", namespace)


@pytest.mark.usefixtures("controller")
async def test_a_child_that_is_somebody_elses_is_left_alone(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    world.api.kubectl("create", "service", "clusterip", "iris", "--tcp=80", "-n", namespace)
    world.apply(iris(), namespace=namespace)
    assert "belongs to something else" in await told(cluster, "iris", namespace, "`iris`")


def policy(name: str, namespace: str, resource: str, message: str) -> list[Object]:
    """A rule of the cluster's administrator that lets none of the resource in."""
    group, _, plural = resource.rpartition("/")
    rule = {
        "apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": [plural],
    }  # fmt: skip
    kind = "ValidatingAdmissionPolicy"
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule], "namespaceSelector": chosen},
                "validations": [{"expression": "false", "message": message}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": f"{kind}Binding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]


@pytest.mark.usefixtures("controller")
@pytest.mark.parametrize("resource", ["apps/deployments", "/pods"])
async def test_a_refusal_by_the_clusters_own_rules_is_told_and_waited_for(
    world: World, cluster: KubernetesCluster, namespace: str, resource: str
) -> None:
    """Of what Kedge makes, and of the pods that Kubernetes makes of it."""
    name = f"none-in-{namespace}"
    message = "images come from registry.corp.example only"
    world.apply(*policy(name, namespace, resource, message))
    try:
        probe = (
            ("create", "deployment", "probe", "--image=x") if "apps" in resource
            else ("run", "probe", "--image=x")
        )  # fmt: skip
        until(
            lambda: "corp.example" in world.api.kubectl(
                *probe, "-n", namespace, "--dry-run=server", check=False
            ),
            "the policy in force",
        )  # fmt: skip
        world.apply(iris(), namespace=namespace)
        await told(cluster, "iris", namespace, "registry.corp.example")
        found = await cluster.get(INFERENCE_SERVICE, "iris", namespace)
        assert condition(found, "Ready")["status"] == "False"
        assert "registry.corp.example" in world.api.kubectl("get", "events", "-n", namespace)
    finally:
        world.api.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy",
                          name)  # fmt: skip
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "iris", namespace)


@pytest.mark.usefixtures("controller")
async def test_a_namespace_that_goes_while_its_services_come_up_is_survived(
    world: World, cluster: KubernetesCluster, namespace: str, controller: ControllerProcess
) -> None:
    """And one of the same name that comes after it is served as any other."""
    for _ in range(2):
        world.apply(*(iris(f"iris-{number}") for number in range(8)), namespace=namespace)
        await eventually(lambda: find(cluster, SERVICE, "iris-0-predictor", namespace), "a child")
        world.api.kubectl("delete", "namespace", namespace, "--wait=true", "--timeout=50s")
        world.api.kubectl("create", "namespace", namespace)
    world.apply(iris("after"), namespace=namespace)
    async with all_goes_well(cluster, namespace):
        await ready(cluster, "after", namespace)
    assert controller.process.poll() is None
    left = (await cluster.list(INFERENCE_SERVICE, namespace)).items
    assert [one["metadata"]["name"] for one in left] == ["after"]


@pytest.fixture(scope="module")
def bare(assets: Path) -> Iterator[World]:
    """A cluster without Gateway API, whose controller may not write Services."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiServer(assets, Path(folder), controllers=True) as api,
    ):
        it = World(api, Path(folder))
        prepare(it, gateway_api=False)
        few = [rule for rule in CONTROLLER_RULES if "services" not in rule.resources]
        it.apply(*make_controller_rights(HOME, [*few, Rule("", ("services",), ("list", "watch"))]))
        yield it


async def test_rights_and_kinds_that_are_missing_are_named_and_waited_for(bare: World) -> None:
    kubeconfig = bare.api.kubeconfig_of(CONTROLLER, HOME)
    bare.apply(iris(), namespace="default")
    async with KubernetesCluster.from_kubeconfig(bare.api.kubeconfig) as cluster:
        with bare.controller("limited", kubeconfig=kubeconfig):
            said = await told(cluster, "iris", "default", "forbidden")
            assert "services" in said
            bare.apply(*make_controller_rights(HOME))
            said = await told(cluster, "iris", "default", "HTTPRoute")
            assert "Gateway API" in said
            found = await cluster.get(INFERENCE_SERVICE, "iris", "default")
            assert condition(found, "Ready").get("status") != "True"
            for kind in (HTTP_ROUTE, GATEWAY):
                crd = make_crd(kind)
                crd["metadata"]["annotations"] = {
                    "api-approved.kubernetes.io": "unapproved, for tests only"
                }
                bare.apply(crd)
            async with all_goes_well(cluster, "default"):
                await ready(cluster, "iris", "default")
