"""The webhook as the API server asks it, and what is told where nobody asks."""

from __future__ import annotations

import json
import time

import pytest
from tests.kubernetes.standins import condition, eventually
from tests.kubernetes.test_reconciling import iris
from tests.kubernetes.world import ControllerProcess, World, until

from kedge.api.scheme import INFERENCE_SERVICE
from kedge.cluster.base import Object
from kedge.cluster.kubernetes import KubernetesCluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]


def refused(name: str) -> Object:
    service = iris(name)
    service["spec"]["predictor"].update(minReplicas=3, maxReplicas=2)
    return service


@pytest.fixture
def asked(world: World, controller: ControllerProcess) -> None:
    """The API server knows whom to trust."""

    def trusted() -> bool:
        found = world.get("validatingwebhookconfigurations", "kedge")
        return all(one["clientConfig"].get("caBundle") for one in found["webhooks"])

    until(trusted, "the bundle in the webhook's configuration")


@pytest.mark.usefixtures("asked")
def test_it_refuses_with_the_cause_and_warns(world: World, namespace: str) -> None:
    def apply(obj: Object) -> str:
        return world.api.kubectl(
            "create", "-n", namespace, "--validate=false", "-f", "-", "--dry-run=server",
            given=json.dumps(obj), check=False,
        )  # fmt: skip

    until(lambda: "maxReplicas" in apply(refused("wrong")), "a refusal")
    service = iris("odd")
    service["spec"]["predictor"]["model"]["modelFormat"]["name"] = "sklern"
    said = apply(service)
    assert "Warning" in said
    assert "sklern" in said
    assert "created" in said


@pytest.mark.usefixtures("asked")
async def test_a_refused_update_changes_nothing(
    world: World, cluster: KubernetesCluster, namespace: str
) -> None:
    world.apply(iris(), namespace=namespace)
    said = world.api.kubectl(
        "patch", "isvc", "iris", "-n", namespace, "--type=merge", "-p",
        '{"spec": {"predictor": {"minReplicas": 3, "maxReplicas": 2}}}', check=False,
    )  # fmt: skip
    assert "maxReplicas" in said
    assert (
        "minReplicas"
        not in (await cluster.get(INFERENCE_SERVICE, "iris", namespace))["spec"]["predictor"]
    )


async def test_where_nobody_is_asked_the_status_says_the_same(
    world: World, cluster: KubernetesCluster, namespace: str, controller: ControllerProcess
) -> None:
    configuration = world.get("validatingwebhookconfigurations", "kedge")
    world.api.kubectl("delete", "validatingwebhookconfiguration", "kedge")
    try:
        time.sleep(1)  # noqa: ASYNC251 (kube-apiserver forgets it in a moment; there is no sign)
        world.apply(refused("wrong"), namespace=namespace)

        async def told() -> str:
            found = await cluster.get(INFERENCE_SERVICE, "wrong", namespace)
            said = condition(found, "Ready")
            return str(said.get("message", "")) if said.get("status") == "False" else ""

        assert "maxReplicas" in await eventually(told, "a False condition")
        events = world.api.kubectl("get", "events", "-n", namespace)
        assert "maxReplicas" in events
    finally:
        for key in ("resourceVersion", "uid", "creationTimestamp", "generation"):
            configuration["metadata"].pop(key, None)
        world.apply(configuration)


def test_nothing_waits_for_a_webhook_that_is_away(
    world: World, namespace: str, controller: ControllerProcess
) -> None:
    """Pods are never sent to it, and what is sent passes when it does not answer."""
    configuration = world.get("validatingwebhookconfigurations", "kedge")
    resources = {
        resource
        for webhook in configuration["webhooks"]
        for rule in webhook["rules"]
        for resource in rule["resources"]
    }
    assert resources == {
        "inferenceservices", "servingruntimes", "clusterservingruntimes",
        "clusterstoragecontainers", "configmaps",
    }  # fmt: skip
    assert {one["failurePolicy"] for one in configuration["webhooks"]} == {"Ignore"}
    for place in range(len(configuration["webhooks"])):
        world.api.kubectl(
            "patch", "validatingwebhookconfiguration", "kedge", "--type=json", "-p",
            f'[{{"op": "replace", "path": "/webhooks/{place}/clientConfig/url",'
            ' "value": "https://127.0.0.1:9/validate"}]',
        )  # fmt: skip
    try:
        time.sleep(1)
        assert "created" in world.apply(refused("passes"), namespace=namespace)
    finally:
        for place, webhook in enumerate(configuration["webhooks"]):
            url = webhook["clientConfig"]["url"]
            world.api.kubectl(
                "patch", "validatingwebhookconfiguration", "kedge", "--type=json", "-p",
                f'[{{"op": "replace", "path": "/webhooks/{place}/clientConfig/url",'
                f' "value": "{url}"}}]',
            )  # fmt: skip
