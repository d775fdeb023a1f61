"""A cluster of KServe's becomes Kedge's, one service after the other, and none is without pods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.contract.apiserver import ApiServer
from tests.kubernetes import kserve
from tests.kubernetes.standins import all_goes_well, condition, eventually, find
from tests.kubernetes.world import HOME, World

from kedge.api.scheme import (
    CONFIG_MAP,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    POD,
    SERVICE,
)
from kedge.cluster.errors import AlreadyExists, ApiError, NotFound
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.install.installing import Installation
from kedge.install.kinds import VALIDATING_WEBHOOK
from kedge.install.migration.finding import FRONT
from kedge.install.migration.kinds import (
    INGRESS,
    KNATIVE_SERVICE,
    LEGACY_SERVICE,
    MUTATING_WEBHOOK,
    VIRTUAL_SERVICE,
)
from kedge.install.migration.migrating import Migration
from kedge.install.migration.planning import Plan
from kedge.install.migration.stopping import MEMORY
from kedge.install.render import render
from kedge.install.target import InstallError
from kedge.install.uninstalling import Removal
from kedge.install.values import Values, Webhook
from kedge.modes.migrate import foresee
from kedge.settings.installation import ADOPTION, APPLIED_HASH, ENDPOINTS_LABEL, WAITING

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(400)]
VALUES = Values(webhook=Webhook(enabled=False))
TEAM = "team"


@pytest.fixture(scope="module")
def theirs(assets: Path) -> Iterator[World]:
    """A cluster of KServe's: its definitions, its controller, its services and what they became."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiServer(assets, Path(folder), controllers=True) as api,
    ):
        it = World(api, Path(folder))
        definitions = [obj for obj in render(VALUES) if obj["kind"] == "CustomResourceDefinition"]
        for obj in definitions:
            obj["metadata"].pop("labels", None)  # They are nobody's of Kedge.
        definitions += kserve.DEFINITIONS
        given = "\n---\n".join(json.dumps(one) for one in definitions)
        api.kubectl("create", "--validate=false", "-f", "-", given=given)
        names = [f"crd/{one['metadata']['name']}" for one in definitions]
        api.kubectl("wait", "--for=condition=Established", "--timeout=30s", *names)
        api.kubectl("create", "namespace", TEAM)
        kserve.make_controller(it)
        asyncio.run(_fill(it))
        kserve.make_webhooks(it)
        yield it


async def _fill(world: World) -> None:
    async with KubernetesCluster.from_kubeconfig(world.api.kubeconfig) as cluster:
        await kserve.make_services(world, cluster, TEAM)
        async with all_goes_well(cluster, TEAM):
            for name in ("iris-predictor-00003-deployment", "income-predictor"):

                async def available(name: str = name) -> bool:
                    found = await cluster.get(DEPLOYMENT, name, TEAM)
                    wanted = found["spec"]["replicas"]
                    return bool((found.get("status") or {}).get("availableReplicas") == wanted)

                await eventually(available, f"{name} being available")
    await asyncio.sleep(0.3)  # Connections end in their own time, and this loop ends here.


@pytest.fixture
async def cluster(theirs: World) -> AsyncIterator[KubernetesCluster]:
    async with KubernetesCluster.from_kubeconfig(theirs.api.kubeconfig) as it:
        yield it


class Run:
    """One `kedge migrate` after another, and what was told."""

    def __init__(self, world: World, cluster: KubernetesCluster, stack: AsyncExitStack) -> None:
        self.told: list[str] = []
        self.world = world
        self.cluster = cluster
        self.stack = stack
        self.migration = Migration(
            cluster, VALUES, self.told.append, foresee(cluster, VALUES), seconds=90, drain=1
        )

    async def __call__(self, *only: str) -> tuple[Plan, list[str]]:
        plan = await self.migration.plan(only)
        return plan, await self.migration.apply(plan, self._install)

    async def _install(self) -> None:
        """As `kedge install` does; its pods run nowhere here, so its controller is a process."""
        await Installation(self.cluster, VALUES, self.told.append, 60).run(wait=False)
        self.stack.enter_context(self.world.controller("migrated"))


async def versions(cluster: KubernetesCluster) -> dict[str, str]:
    kinds = (INFERENCE_SERVICE, LEGACY_SERVICE, SERVICE, KNATIVE_SERVICE, VIRTUAL_SERVICE,
             MUTATING_WEBHOOK, VALIDATING_WEBHOOK, CONFIG_MAP, HTTP_ROUTE, INGRESS)  # fmt: skip
    return {
        f"{kind} {obj['metadata'].get('namespace')}/{obj['metadata']['name']}": obj["metadata"][
            "resourceVersion"
        ]
        for kind in kinds
        for obj in (await cluster.list(kind)).items
    }


async def test_the_plan_tells_everything_and_changes_nothing(
    theirs: World, cluster: KubernetesCluster
) -> None:
    before = await versions(cluster)
    async with AsyncExitStack() as stack:
        plan = await Run(theirs, cluster, stack).migration.plan()
    text = "\n".join(plan.lines())
    for said in (
        "Deployment kserve/kserve-controller-manager: scaled from 1 to 0",
        "MutatingWebhookConfiguration inferenceservice.serving.kserve.io: removed",
        "Configuration kserve/inferenceservice-config: carried over: deploy, ingress, storage",
        "not carried over: openshiftConfig: Kedge has no such part",
        "not carried over: storageInitializer.image: Kedge's own is used",
        "Ingress objects of class istio lead to Kedge's gateway",
        "TrainedModel, not Kedge's to serve: team/extra",
        "team/iris (Knative, Ready True)",
        "URL: http://iris.team.models.example, as before",
        "Deployment iris-predictor-00004",
        "removed once it is Ready: Knative Service iris-predictor",
        "led to Kedge's gateway, and kept: VirtualService iris",
        "kedge/sklearnserver",
        "URL: http://income-team.example.com -> http://income.team.models.example",
        "team/mesh (",
        "ModelMesh",
        "of serving.kubeflow.org: made anew in serving.kserve.io",
        "3 services will be taken over, 1 stay as they are, 0 are Kedge's already.",
    ):
        assert said in text, f"{said!r} is not in\n{text}"
    printed = await _printed(theirs)
    assert all(line in printed for line in plan.lines())
    assert "Nothing was changed. Give --apply to do it." in printed
    assert await versions(cluster) == before


async def _printed(world: World) -> str:
    """What `kedge migrate` writes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kedge", "migrate", "--kubeconfig", str(world.api.kubeconfig),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()


async def test_a_service_that_is_not_there_is_named(
    theirs: World, cluster: KubernetesCluster
) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(InstallError, match="team/nobody"):
            await Run(theirs, cluster, stack).migration.plan(["team/nobody"])


@asynccontextmanager
async def gateway_endpoints(cluster: KubernetesCluster) -> AsyncIterator[None]:
    """What Kedge's gateway does: its own pods are the endpoints of Services that say so."""

    async def write() -> None:
        for service in (
            await cluster.list(SERVICE, TEAM, labels=f"{ENDPOINTS_LABEL}=gateway")
        ).items:
            name = service["metadata"]["name"]
            slice_ = {
                "apiVersion": ENDPOINT_SLICE.api_version,
                "kind": ENDPOINT_SLICE.kind,
                "metadata": {
                    "name": f"{name}-kedge-gateway",
                    "namespace": TEAM,
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.1.0.9"], "conditions": {"ready": True}}],
                "ports": [{"name": "http", "port": 8888, "protocol": "TCP"}],
            }
            with contextlib.suppress(AlreadyExists):
                await cluster.create(ENDPOINT_SLICE, slice_)

    async def run() -> None:
        while True:
            with contextlib.suppress(ApiError, OSError):
                await write()
            await asyncio.sleep(0.2)

    task = asyncio.ensure_future(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Watcher:
    """Looks again and again whether a request would meet a pod that is ready."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self.cluster = cluster
        self.looks = 0
        self.gaps: list[str] = []

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self._look()
                self.looks += 1
            await asyncio.sleep(0.02)

    async def _look(self) -> None:
        """Services first: what they lead to must be there afterwards as well."""
        for name in ("iris", "iris-predictor"):
            service = await self.cluster.get(SERVICE, name, TEAM)
            by_knative = service["spec"]["type"] == "ExternalName"
            try:
                if by_knative:
                    await self._ready("iris-predictor-00003-deployment")
                else:
                    await self._ready("iris-predictor-00004")
                    await self._answers("iris")
                    assert await self.cluster.get(ENDPOINT_SLICE, f"{name}-kedge-gateway", TEAM)
            except (AssertionError, ApiError) as error:
                again = await self.cluster.get(SERVICE, name, TEAM)
                if again["spec"]["type"] == service["spec"]["type"]:
                    self.gaps.append(f"{name} ({service['spec']['type']}): {error}")
        income = await self.cluster.get(SERVICE, "income-predictor", TEAM)
        if income["spec"].get("selector") != {"app": "isvc.income-predictor"}:
            self.gaps.append(f"income selects {income['spec'].get('selector')}")
        deployment = await self.cluster.get(DEPLOYMENT, "income-predictor", TEAM)
        # A rolling update of three pods with a quarter unavailable: none is.
        if deployment["status"].get("availableReplicas", 0) < 3:
            self.gaps.append(f"income has {deployment['status']}")

    async def _ready(self, name: str) -> None:
        deployment = await self.cluster.get(DEPLOYMENT, name, TEAM)
        assert deployment["status"].get("readyReplicas"), f"{name} has no ready pod"

    async def _answers(self, name: str) -> None:
        route = await self.cluster.get(HTTP_ROUTE, name, TEAM)
        assert (route.get("status") or {}).get("parents"), f"route {name} does not answer"


async def test_services_are_taken_over_and_given_back(
    theirs: World, cluster: KubernetesCluster
) -> None:
    async with AsyncExitStack() as stack:
        run = Run(theirs, cluster, stack)
        await stack.enter_async_context(all_goes_well(cluster, TEAM))
        await stack.enter_async_context(gateway_endpoints(cluster))
        watcher = Watcher(cluster)
        async with watcher.watching():
            await _one_alone(run)
            await _all_others(run)
        assert watcher.looks > 10
        assert watcher.gaps == []
        await _check_cluster(cluster)
        await _check_knative(cluster)
        await _check_standard(cluster)
        await _check_legacy(cluster)
        await _check_left_alone(cluster)

        told = len(run.told)
        before = await versions(cluster)
        plan, failed = await run()
        assert [served.key for served, _ in plan.services] == ["team/mesh"]
        assert plan.done == 3
        assert len(failed) == 1
        assert await versions(cluster) == before, run.told[told:]
        with pytest.raises(InstallError, match="Kedge is installed"):
            await run.migration.undo()
    await _give_back(theirs, cluster, run)


async def _one_alone(run: Run) -> None:
    """`--service`: KServe stops, and all others stay as it left them."""
    plan, failed = await run("team/iris")
    assert failed == []
    assert [served.key for served, _ in plan.services] == ["team/iris"]
    for name in ("income", "mesh"):
        waiting = await run.cluster.get(INFERENCE_SERVICE, name, TEAM)
        assert waiting["metadata"]["annotations"][ADOPTION] == WAITING
    untouched = await run.cluster.get(DEPLOYMENT, "income-predictor", TEAM)
    assert APPLIED_HASH not in (untouched["metadata"].get("annotations") or {})
    with pytest.raises(NotFound):
        await run.cluster.get(INFERENCE_SERVICE, "old", TEAM)


async def _all_others(run: Run) -> None:
    plan, failed = await run()
    assert [served.key for served, _ in plan.services] == ["team/income", "team/mesh", "team/old"]
    assert len(failed) == 1
    assert failed[0].startswith("team/mesh: ")
    assert "ModelMesh" in failed[0]


async def _check_cluster(cluster: KubernetesCluster) -> None:
    manager = await cluster.get(DEPLOYMENT, "kserve-controller-manager", kserve.HOME)
    assert manager["spec"]["replicas"] == 0
    for kind in (MUTATING_WEBHOOK, VALIDATING_WEBHOOK):
        with pytest.raises(NotFound):
            await cluster.get(kind, "inferenceservice.serving.kserve.io")
    config = await cluster.get(CONFIG_MAP, "inferenceservice-config", HOME)
    ingress = json.loads(config["data"]["ingress"])
    assert ingress["ingressDomain"] == "models.example"
    assert ingress["kserveIngressGateway"] == "kedge/kedge-gateway"
    storage = json.loads(config["data"]["storageInitializer"])
    assert storage["memoryLimit"] == "3Gi"
    assert storage["image"].startswith("kedge/")
    await cluster.get(CONFIG_MAP, MEMORY, kserve.HOME)


async def _check_knative(cluster: KubernetesCluster) -> None:
    isvc = await cluster.get(INFERENCE_SERVICE, "iris", TEAM)
    assert ADOPTION not in (isvc["metadata"].get("annotations") or {})
    assert condition(isvc, "Ready")["status"] == "True"
    assert isvc["status"]["url"] == "http://iris.team.models.example"
    newest = isvc["status"]["components"]["predictor"]["latestReadyRevision"]
    assert newest == "iris-predictor-00004"
    for name in ("iris", "iris-predictor"):
        service = await cluster.get(SERVICE, name, TEAM)
        spec, metadata = service["spec"], service["metadata"]
        assert (spec["type"], spec.get("selector"), spec.get("externalName")) == (
            "ClusterIP", None, None,
        )  # fmt: skip
        assert [one["uid"] for one in metadata["ownerReferences"]] == [isvc["metadata"]["uid"]]
        assert not [key for key in metadata["labels"] if key == "serving.knative.dev/route"]
    assert await find(cluster, KNATIVE_SERVICE, "iris-predictor", TEAM) is None
    virtual = await cluster.get(VIRTUAL_SERVICE, "iris", TEAM)
    assert virtual["metadata"]["labels"][FRONT] == "kserve"
    (rule,) = virtual["spec"]["http"]
    assert rule["route"][0]["destination"]["host"] == "kedge-gateway.kedge.svc.cluster.local"
    assert rule["route"][0]["headers"]["request"]["set"]["Host"]
    assert virtual["spec"]["hosts"] == ["iris.team.models.example"]


async def _check_standard(cluster: KubernetesCluster) -> None:
    isvc = await cluster.get(INFERENCE_SERVICE, "income", TEAM)
    assert condition(isvc, "Ready")["status"] == "True"
    deployment = await cluster.get(DEPLOYMENT, "income-predictor", TEAM)
    assert deployment["spec"]["replicas"] == 3
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("kedge/sklearnserver")
    assert "--model_name=theirs" not in container["args"]
    assert "OF_KSERVE" not in [one["name"] for one in container["env"]]
    copied = await cluster.get(HTTP_ROUTE, "income-kserve", TEAM)
    assert copied["spec"]["parentRefs"][0]["name"] == "kserve-ingress-gateway"
    assert copied["spec"]["hostnames"] == ["income-team.example.com"]
    route = await cluster.get(HTTP_ROUTE, "income", TEAM)
    assert [one["name"] for one in route["spec"]["parentRefs"]] == ["kedge-gateway"]
    ingress = await cluster.get(INGRESS, "income", TEAM)
    assert ingress["metadata"]["labels"][FRONT] == "kserve"


async def _check_legacy(cluster: KubernetesCluster) -> None:
    assert await find(cluster, LEGACY_SERVICE, "old", TEAM) is None
    isvc = await cluster.get(INFERENCE_SERVICE, "old", TEAM)
    assert condition(isvc, "Ready")["status"] == "True"
    assert await find(cluster, KNATIVE_SERVICE, "old-predictor-default", TEAM) is None
    service = await cluster.get(SERVICE, "old", TEAM)
    assert service["metadata"]["ownerReferences"][0]["uid"] == isvc["metadata"]["uid"]
    virtual = await cluster.get(VIRTUAL_SERVICE, "old", TEAM)
    assert virtual["metadata"]["ownerReferences"][0]["uid"] == isvc["metadata"]["uid"]


async def _check_left_alone(cluster: KubernetesCluster) -> None:
    """What Kedge cannot serve stays with what KServe made."""
    isvc = await cluster.get(INFERENCE_SERVICE, "mesh", TEAM)
    assert isvc["metadata"]["annotations"][ADOPTION] == WAITING
    assert condition(isvc, "Ready")["status"] == "True"
    await cluster.get(SERVICE, "mesh-predictor", TEAM)
    assert not [
        pod for pod in (await cluster.list(POD, TEAM)).items
        if pod["metadata"]["name"].startswith("mesh")
    ]  # fmt: skip


async def _give_back(world: World, cluster: KubernetesCluster, run: Run) -> None:
    removal = Removal(cluster, HOME, run.told.append, keep_crds=True, seconds=60)
    await removal.run()
    await run.migration.undo()
    manager = await cluster.get(DEPLOYMENT, "kserve-controller-manager", kserve.HOME)
    assert manager["spec"]["replicas"] == 1
    mutating = await cluster.get(MUTATING_WEBHOOK, "inferenceservice.serving.kserve.io")
    assert [one["failurePolicy"] for one in mutating["webhooks"]] == ["Fail", "Fail"]
    await cluster.get(VALIDATING_WEBHOOK, "inferenceservice.serving.kserve.io")
    isvc = await cluster.get(INFERENCE_SERVICE, "mesh", TEAM)
    assert ADOPTION not in isvc["metadata"]["annotations"]
    with pytest.raises(NotFound):
        await cluster.get(CONFIG_MAP, MEMORY, kserve.HOME)
