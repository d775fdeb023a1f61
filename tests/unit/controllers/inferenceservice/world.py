"""State in, state out: a small world in which one service is reconciled step by step.

The objects live in a real local cluster in memory; what a workload controller, a node agent and a
gateway would do to them is done here, at once and by rules that a test can bend (`broken`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    POD,
    SERVICE,
    SERVING_RUNTIME,
    Kind,
)
from kedge.cluster.base import Object
from kedge.cluster.errors import ApiError, Conflict, NotFound
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.cache import service_of
from kedge.controllers.inferenceservice.reconcile import Reconciler
from kedge.lib.errors import KedgeError
from kedge.reconcile.controller import Key, Result
from kedge.settings.serving import Ingress, ServingConfig, StorageInitializer
from kedge.testing.clock import FakeClock

NS = "default"
MANIFESTS = Path(__file__).parents[4] / "src/kedge/manifests"
_WATCHED = (
    INFERENCE_SERVICE, DEPLOYMENT, SERVICE, POD, HTTP_ROUTE, HORIZONTAL_POD_AUTOSCALER,
    SERVING_RUNTIME, CLUSTER_SERVING_RUNTIME, CLUSTER_STORAGE_CONTAINER, CONFIG_MAP,
)  # fmt: skip

LOCAL = ServingConfig(
    ingress=Ingress(
        ingress_domain="localhost", external_port=8080, path_base_url="http://127.0.0.1:8080"
    ),
    storage_initializer=StorageInitializer(local_paths="inPlace"),
)


class Snapshot:
    """A cache that is filled when the test says so."""

    def __init__(self) -> None:
        self._objects: dict[Kind, list[Object]] = {kind: [] for kind in _WATCHED}

    async def load(self, cluster: LocalCluster) -> None:
        for kind in _WATCHED:
            self._objects[kind] = (await cluster.list(kind)).items

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        return next(
            (obj for obj in self.list(kind, namespace) if obj["metadata"]["name"] == name),
            None,
        )

    def of_service(self, kind: Kind, key: Key) -> list[Object]:
        return [obj for obj in self._objects[kind] if service_of(obj) == key]

    def list(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        return [
            obj
            for obj in self._objects[kind]
            if not namespace or obj["metadata"].get("namespace", "") == namespace
        ]


@dataclass
class World:
    """One namespace with its services.

    Attributes:
        broken: what a pod's containers show instead of being ready; None for a healthy pod.
        deaf: routes that the gateway has not taken in.
        asked: pods that the traffic of a Deployment asks for.
        error: what the last reconcile raised.
    """

    config: ServingConfig = LOCAL
    broken: Callable[[Object], dict[str, Any] | None] = lambda pod: None
    deaf: Callable[[Object], bool] = lambda route: False
    asked: dict[str, int] = field(default_factory=dict)
    error: KedgeError | None = None
    result: Result | None = None
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.cluster = LocalCluster(Store(":memory:"), AdmitAll(), clock=self.clock)
        self.cache = Snapshot()
        self.reconciler = Reconciler(
            self.cluster, self.cache, lambda: self.config, clock=self.clock
        )
        self._pods = 0

    # -- objects ---------------------------------------------------------------------------

    async def add(self, *objects: tuple[Kind, Object]) -> None:
        for kind, obj in objects:
            await self.cluster.create(kind, copy.deepcopy(obj))

    async def add_runtimes(self) -> None:
        for path in sorted((MANIFESTS / "runtimes").glob("*.yaml")):
            await self.add((CLUSTER_SERVING_RUNTIME, yaml.safe_load(path.read_text())))

    async def add_storage_containers(self) -> None:
        path = MANIFESTS / "storagecontainers/default.yaml"
        await self.add((CLUSTER_STORAGE_CONTAINER, yaml.safe_load(path.read_text())))

    async def children(self) -> set[tuple[str, str]]:
        """Plural and name of everything that services have made."""
        return {
            (kind.plural, name)
            for kind in (DEPLOYMENT, SERVICE, HTTP_ROUTE, HORIZONTAL_POD_AUTOSCALER)
            for name in await self.all(kind)
        }

    async def get(self, kind: Kind, name: str) -> Object:
        return await self.cluster.get(kind, name, NS if kind.namespaced else None)

    async def has(self, kind: Kind, name: str) -> bool:
        try:
            await self.get(kind, name)
        except NotFound:
            return False
        return True

    async def all(self, kind: Kind) -> list[str]:
        listed = await self.cluster.list(kind, NS)
        return sorted(obj["metadata"]["name"] for obj in listed.items)

    async def edit(self, name: str, **spec: Any) -> None:
        """Merge into `spec.predictor`."""
        await self.cluster.patch(
            INFERENCE_SERVICE, name, {"spec": {"predictor": spec}}, namespace=NS
        )

    async def annotate(self, name: str, **annotations: str | None) -> None:
        patch = {"metadata": {"annotations": {k.replace("__", "/"): v for k, v in
                                              annotations.items()}}}  # fmt: skip
        await self.cluster.patch(INFERENCE_SERVICE, name, patch, namespace=NS)

    async def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get(INFERENCE_SERVICE, name)).get("status") or {}
        return found

    async def condition(self, name: str, type_: str = "Ready") -> dict[str, Any]:
        conditions = (await self.status(name)).get("conditions") or []
        return next((entry for entry in conditions if entry["type"] == type_), {})

    async def replicas(self, name: str) -> int:
        return int((await self.get(DEPLOYMENT, name))["spec"]["replicas"])

    async def weights(self, route: str) -> dict[str, int]:
        """The shares of the Services in a route's last rule."""
        rules = (await self.get(HTTP_ROUTE, route))["spec"]["rules"]
        return {ref["name"]: ref["weight"] for ref in rules[-1]["backendRefs"]}

    async def events(self) -> list[tuple[str, str]]:
        listed = await self.cluster.list(EVENT, NS)
        return [(event["reason"], event["message"]) for event in listed.items]

    # -- time ------------------------------------------------------------------------------

    async def reconcile(self, name: str) -> None:
        """One reconcile on the world as it is now."""
        await self.cache.load(self.cluster)
        self.error = None
        try:
            self.result = await self.reconciler.reconcile(Key(NS, name))
        except Conflict:
            return
        except KedgeError as error:
            if isinstance(error, ApiError):
                raise
            self.error = error

    async def settle(self, name: str, rounds: int = 12) -> None:
        """Reconcile and let everybody else work until nothing changes any more."""
        for _ in range(rounds):
            before = await self._fingerprint()
            await self.reconcile(name)
            await self.run_autoscaler()
            await self.run_workloads()
            await self.run_gateway()
            if await self._fingerprint() == before:
                return
        raise AssertionError(f"the world of {name} does not come to rest")

    async def _fingerprint(self) -> str:
        versions = []
        for kind in _WATCHED:
            for obj in (await self.cluster.list(kind)).items:
                versions.append(f"{kind}/{obj['metadata']['resourceVersion']}")
        return ";".join(versions)

    # -- the others ------------------------------------------------------------------------

    async def run_autoscaler(self) -> None:
        """Counts of what Kedge scales: what `asked` says, within what the annotations allow."""
        for deployment in (await self.cluster.list(DEPLOYMENT, NS)).items:
            metadata = deployment["metadata"]
            if (metadata.get("labels") or {}).get(names.AUTOSCALED) != "true":
                continue
            now, told = deployment["spec"]["replicas"], metadata["annotations"]
            fewest = max(int(told[f"{names.AUTOSCALING}/min-scale"]), int(told.get(names.FLOOR, 0)))
            if told.get(names.REACHABILITY) == "unreachable":
                fewest = 0
            wanted = max(fewest, self.asked.get(metadata["name"], 0))
            if told.get(names.PROVEN) != "true":
                wanted = max(wanted, now)
            if wanted != now:
                await self.cluster.scale(
                    DEPLOYMENT, metadata["name"], NS, wanted,
                    field_manager=names.AUTOSCALER_MANAGER,
                )  # fmt: skip

    async def run_workloads(self) -> None:
        """Deployments get their pods; pods are ready unless `broken` says otherwise."""
        pods = (await self.cluster.list(POD, NS)).items
        deployments = (await self.cluster.list(DEPLOYMENT, NS)).items
        wanted = {d["metadata"]["uid"] for d in deployments}
        for pod in pods:
            if pod["metadata"]["annotations"]["test/owner"] not in wanted:
                await self._end(pod)
        for deployment in deployments:
            mine = [
                p for p in pods
                if p["metadata"]["annotations"]["test/owner"] == deployment["metadata"]["uid"]
            ]  # fmt: skip
            await self._run_deployment(deployment, mine)

    async def _run_deployment(self, deployment: Object, pods: list[Object]) -> None:
        template, replicas = deployment["spec"]["template"], deployment["spec"]["replicas"]
        stamp = template["metadata"]["annotations"][names.TEMPLATE_HASH]
        fresh = [p for p in pods if p["metadata"]["annotations"][names.TEMPLATE_HASH] == stamp]
        old = [pod for pod in pods if pod not in fresh]
        while len(fresh) < replicas:
            fresh.append(await self._start(deployment, template))
        for pod in fresh[replicas:]:
            await self._end(pod)
        fresh = fresh[:replicas]
        ready = 0
        for pod in fresh:
            ready += await self._show(pod)
        if ready >= replicas:
            for pod in old:
                await self._end(pod)
            old = []
        await self._report(deployment, len(fresh) + len(old), len(fresh), ready + len(old))

    async def _start(self, deployment: Object, template: Object) -> Object:
        self._pods += 1
        metadata = copy.deepcopy(template["metadata"])
        metadata["annotations"]["test/owner"] = deployment["metadata"]["uid"]
        metadata["name"] = f"{deployment['metadata']['name']}-{self._pods:03d}"
        metadata["namespace"] = NS
        spec = copy.deepcopy(template["spec"])
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        return await self.cluster.create(POD, pod)

    async def _end(self, pod: Object) -> None:
        await self.cluster.delete(POD, pod["metadata"]["name"], NS, grace_seconds=0)

    async def _show(self, pod: Object) -> bool:
        """Write a pod's status; whether it is ready."""
        trouble = self.broken(pod)
        conditions = [{"type": "Ready", "status": "False" if trouble else "True"}]
        status = {"phase": "Running", "conditions": conditions, **(trouble or {})}
        if (pod.get("status") or {}) != status:
            await self.cluster.replace_status(POD, {**pod, "status": status})
        return not trouble

    async def _report(self, deployment: Object, total: int, updated: int, ready: int) -> None:
        wanted = deployment["spec"]["replicas"]
        available = ready >= wanted or (ready > 0 and total > wanted)
        done = updated == total == wanted and ready == wanted
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": total,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": [
                {
                    "type": "Available",
                    "status": "True" if available else "False",
                    "reason": "MinimumReplicas" + ("Available" if available else "Unavailable"),
                    "message": "",
                },
                {
                    "type": "Progressing",
                    "status": "True",
                    "reason": "NewReplicaSetAvailable" if done else "ReplicaSetUpdated",
                    "message": "",
                },
            ],
        }
        if (deployment.get("status") or {}) != status:
            await self.cluster.replace_status(DEPLOYMENT, {**deployment, "status": status})

    async def run_gateway(self) -> None:
        """Routes are answered when every Service with a share has a ready pod."""
        pods = (await self.cluster.list(POD, NS)).items
        services = {s["metadata"]["name"]: s for s in (await self.cluster.list(SERVICE, NS)).items}
        for route in (await self.cluster.list(HTTP_ROUTE, NS)).items:
            if self.deaf(route):
                continue
            dead = [
                ref["name"]
                for rule in route["spec"]["rules"]
                for ref in rule["backendRefs"]
                if ref["weight"] > 0
                and not _holds(services.get(ref["name"]))
                and not _answers(services.get(ref["name"]), pods)
            ]
            await self._acknowledge(route, sorted(set(dead)))

    async def _acknowledge(self, route: Object, dead: list[str]) -> None:
        generation = route["metadata"]["generation"]
        answering = {
            "type": names.ANSWERING,
            "status": "False" if dead else "True",
            "reason": "NoReadyEndpoints" if dead else "Acknowledged",
            "message": f"Service {', '.join(dead)} has no ready endpoint." if dead else "",
        }
        well = [
            {"type": type_, "status": "True", "reason": type_}
            for type_ in ("Accepted", "ResolvedRefs")
        ]
        conditions = [{**c, "observedGeneration": generation} for c in (*well, answering)]
        parent = {
            "parentRef": route["spec"]["parentRefs"][0],
            "controllerName": names.GATEWAY_CONTROLLER,
            "conditions": conditions,
        }
        status = {"parents": [parent]}
        if (route.get("status") or {}) != status:
            await self.cluster.replace_status(HTTP_ROUTE, {**route, "status": status})


def _holds(service: Object | None) -> bool:
    """Whether requests are held for pods that can start."""
    metadata = (service or {"metadata": {}})["metadata"]
    told = metadata.get("annotations") or {}
    held = (metadata.get("labels") or {}).get(names.ACTIVATION) == "true"
    return held and names.CANNOT_START not in told


def _answers(service: Object | None, pods: list[Object]) -> bool:
    selector = (service or {"spec": {}})["spec"].get("selector")
    if not selector:
        return False
    return any(
        all((pod["metadata"].get("labels") or {}).get(k) == v for k, v in selector.items())
        and any(
            c["type"] == "Ready" and c["status"] == "True"
            for c in (pod.get("status") or {}).get("conditions") or ()
        )
        for pod in pods
    )


async def make_world(**options: Any) -> World:
    """A world with Kedge's own runtimes."""
    world = World(**options)
    await world.add_runtimes()
    return world


def isvc(name: str = "iris", *, mode: str = "Standard", **predictor: Any) -> tuple[Kind, Object]:
    """A scikit-learn service with its model in a folder; `predictor` replaces the whole."""
    return INFERENCE_SERVICE, {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": NS,
            "annotations": {names.DEPLOYMENT_MODE: mode},
        },
        "spec": {
            "predictor": predictor
            or {
                "model": {
                    "modelFormat": {"name": "sklearn"},
                    "storageUri": "file:///models/iris",
                }
            }
        },
    }


def crashed(message: str, *, code: int = 1, reason: str = "Error") -> dict[str, Any]:
    """The status of a pod whose server ended."""
    return {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "kserve-container",
                "ready": False,
                "restartCount": 2,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                "lastState": {
                    "terminated": {"exitCode": code, "reason": reason, "message": message}
                },
            }
        ],
    }
