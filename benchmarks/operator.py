"""A thousand InferenceServices on a real API server: until all are reconciled, and then at rest.

    KUBEBUILDER_ASSETS=FOLDER python -m benchmarks.operator [--services 1000] [--keep FILE]

etcd, kube-apiserver and one `kedge controller`; there is no kubelet and no gateway, so the Ready of
Deployments and the answers of routes are written by this program once all children are there.
Reconciled means that every service has its Deployment, Services, routes and a status. CPU and
memory are the kernel's own figures; writes at rest are those in the API server's audit log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.contract.apiserver import ApiServer
from tests.kubernetes.standins import route_answers, set_status
from tests.kubernetes.world import ControllerProcess, World, prepare

from benchmarks.one_machine import machine
from kedge.api.scheme import DEPLOYMENT, HTTP_ROUTE, INFERENCE_SERVICE, NAMESPACE, SERVICE, Kind
from kedge.cluster.base import Object
from kedge.cluster.kubernetes import KubernetesCluster

NAMESPACES = 10
AT_ONCE = 8
SETTLE_SECONDS = 20.0
REST_SECONDS = 60.0
READS = ("get", "list", "watch")


def service(number: int) -> Object:
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": f"gs://bucket/model-{number}"}
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {
            "name": f"model-{number:04d}",
            "namespace": f"bench-{number % NAMESPACES}",
        },
        "spec": {"predictor": {"model": model}},
    }


async def measure(world: World, controller: ControllerProcess, count: int) -> dict[str, Any]:
    async with KubernetesCluster.from_kubeconfig(world.api.kubeconfig) as cluster:
        for number in range(NAMESPACES):
            name = {"name": f"bench-{number}"}
            await cluster.create(
                NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": name}
            )
        cpu, servers, began = controller.cpu(), world.api.cpu(), time.perf_counter()
        await _all(cluster.create(INFERENCE_SERVICE, service(n)) for n in range(count))
        applied = time.perf_counter() - began
        await _reconciled(cluster, controller, count)
        took = time.perf_counter() - began
        figures = {
            "applied_seconds": round(applied, 1),
            "reconciled_seconds": round(took, 1),
            "controller_cpu_seconds": round(controller.cpu() - cpu, 1),
            "api_server_cpu_seconds": round(world.api.cpu() - servers, 1),
            "controller_megabytes": round(controller.memory() / 1e6),
        }
        print(figures, flush=True)
        await _have_all_ready(cluster, count)
    return {**figures, **await _at_rest(world, controller)}


async def _all(work: Any) -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(job: Any) -> None:
        async with limit:
            await job

    await asyncio.gather(*(one(job) for job in work))


async def _count(cluster: KubernetesCluster, kind: Kind, labels: str | None = None) -> int:
    page = await cluster.list(kind, labels=labels)
    return len(page.items)


async def _reconciled(
    cluster: KubernetesCluster, controller: ControllerProcess, count: int
) -> None:
    label = "serving.kserve.io/inferenceservice"
    while True:
        await asyncio.sleep(2)
        routes = await _count(cluster, HTTP_ROUTE, label)
        print(f"{routes} routes, {controller.memory() / 1e6:.0f} MB", flush=True)
        if routes < 3 * count:
            continue
        services = (await cluster.list(INFERENCE_SERVICE)).items
        told = sum(bool((one.get("status") or {}).get("url")) for one in services)
        children = [await _count(cluster, kind, label) for kind in (DEPLOYMENT, SERVICE)]
        if told == count and children == [count, 3 * count]:
            return


async def _have_all_ready(cluster: KubernetesCluster, count: int) -> None:
    conditions = [
        {"type": type, "status": "True", "reason": reason}
        for type, reason in (
            ("Available", "MinimumReplicasAvailable"),
            ("Progressing", "NewReplicaSetAvailable"),
        )
    ]
    for deployment in (await cluster.list(DEPLOYMENT)).items:
        metadata = deployment["metadata"]
        status = {
            "observedGeneration": metadata["generation"], "replicas": 1, "readyReplicas": 1,
            "updatedReplicas": 1, "availableReplicas": 1, "conditions": conditions,
        }  # fmt: skip
        await set_status(cluster, DEPLOYMENT, metadata["name"], metadata["namespace"], status)
    for route in (await cluster.list(HTTP_ROUTE)).items:
        metadata = route["metadata"]
        status = route_answers(route)
        await set_status(cluster, HTTP_ROUTE, metadata["name"], metadata["namespace"], status)


async def _at_rest(world: World, controller: ControllerProcess) -> dict[str, Any]:
    await asyncio.sleep(SETTLE_SECONDS)
    before, cpu = sum(1 for _ in world.api.audited()), controller.cpu()
    await asyncio.sleep(REST_SECONDS)
    used = controller.cpu() - cpu
    writes: dict[str, int] = {}
    for entry in list(world.api.audited())[before:]:
        if entry.get("userAgent", "").startswith("kedge") and entry["verb"] not in READS:
            resource = entry["objectRef"]["resource"]
            writes[resource] = writes.get(resource, 0) + 1
    leases = writes.pop("leases", 0)
    return {
        "rest_cpu_percent": round(used / REST_SECONDS * 100, 2),
        "rest_megabytes": round(controller.memory() / 1e6),
        "rest_writes": writes,
        "rest_lease_renewals_per_minute": round(leases * 60 / REST_SECONDS),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args(argv)
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        raise SystemExit("KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver")
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiServer(Path(assets), Path(folder), audit=True) as api,
    ):
        world = World(api, Path(folder))
        prepare(world)
        with world.controller() as controller:
            try:
                figures = asyncio.run(measure(world, controller, options.services))
            finally:
                print(controller.log.read_text()[-3000:])
    command = {"command": "python -m benchmarks.operator"}
    result = {"machine": {**machine(), **command}, "services": options.services, **figures}
    print(json.dumps(result, indent=2))
    if options.keep:
        options.keep.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
