"""A model served over several nodes: one head pod that answers, and workers that help it.

How many nodes and how many GPUs each, from the parallel sizes and what head and worker ask for.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import pod
from kedge.controllers.inferenceservice.components import Worker
from kedge.controllers.inferenceservice.errors import InvalidWorkerSpec
from kedge.controllers.inferenceservice.merge import (
    Tree,
    find_container,
    merge,
    merge_container,
    set_env,
)
from kedge.controllers.inferenceservice.names import (
    EXECUTOR_BACKEND,
    GPU_RESOURCE_TYPES,
    MODEL_PATH,
    WORKER_CONTAINER,
    head_service,
    workers_service,
)
from kedge.settings.serving import ServingConfig

_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi")
_LEVEL = (
    "nodeSelector", "affinity", "tolerations", "volumes", "imagePullSecrets", "schedulerName",
    "resourceClaims", "hostIPC",
)  # fmt: skip


@dataclass(frozen=True)
class Allocation:
    """Nodes (the head included) and GPUs on each."""

    nodes: int
    head_gpus: int
    worker_gpus: int


def make_worker(
    predictor: Mapping[str, Any],
    runtime: Object,
    head_pod: Tree,
    isvc: str,
    generation: int,
    config: ServingConfig,
) -> Worker:
    """The workers of a predictor; its head's pod gets its share of settings.

    Raises:
        InvalidWorkerSpec: the runtime is not for several nodes, or the GPUs do not add up.
    """
    name = runtime["metadata"]["name"]
    template = runtime["spec"].get("workerSpec")
    if template is None:
        raise InvalidWorkerSpec(
            f"`spec.predictor.workerSpec` is set, but the runtime `{name}` has none.",
            fix="Choose a runtime with a `workerSpec`, such as kserve-huggingfaceserver-multinode,"
            " or remove `spec.predictor.workerSpec`.",
            reason="InvalidWorkerSpecNotSet",
        )
    own = predictor["workerSpec"]
    worker_pod = _worker_pod(template, own, name)
    head, worker = head_pod["containers"][0], worker_pod["containers"][0]
    pipeline = _size(own, template, "pipelineParallelSize")
    tensor = _size(own, template, "tensorParallelSize")
    annotations = runtime["spec"].get("annotations") or {}
    gpu = _GpuTypes(predictor, annotations, config)
    allocation = allocate(
        annotations.get(EXECUTOR_BACKEND, ""), tensor, pipeline,
        gpu.requested(worker), gpu.requested(head),
    )  # fmt: skip
    gpu.write(head, allocation.head_gpus)
    gpu.write(worker, allocation.worker_gpus)
    for container, count in ((head, allocation.head_gpus), (worker, allocation.worker_gpus)):
        set_env(container, "PIPELINE_PARALLEL_SIZE", str(pipeline))
        set_env(container, "TENSOR_PARALLEL_SIZE", str(tensor))
        set_env(container, "RAY_NODE_COUNT", str(allocation.nodes))
        set_env(container, "REQUEST_GPU_COUNT", str(count))
    set_env(head, "MODEL_NAME", isvc)
    set_env(head, "MODEL_DIR", MODEL_PATH)
    variant = str(predictor.get("name") or "")
    set_env(worker, "ISVC_NAME", isvc)
    set_env(worker, "HEAD_SVC", head_service(isvc, variant, generation))
    set_env(worker, "WORKER_SVC", workers_service(isvc, variant, generation))
    pod.name_service([worker], isvc)
    return Worker(worker_pod, allocation.nodes - 1)


def allocate(backend: str, tensor: int, pipeline: int, worker: int, head: int) -> Allocation:
    """Nodes and GPUs per node.

    Args:
        backend: the runtime's executor backend; `mp`, or else Ray.
        tensor: GPUs each layer is spread over.
        pipeline: parts the layers are spread over.
        worker: GPUs that a worker asks for; 0 when it says nothing.
        head: likewise for the head.
    """
    if backend == "mp":
        return Allocation(pipeline, tensor, tensor)
    total = tensor * pipeline
    if worker > 0:
        return _by_worker(total, worker, head)
    if head > 0:
        return Allocation(1 + max(total - head, 0), head, 1)
    return Allocation(total, 1, 1)


def _by_worker(total: int, worker: int, head: int) -> Allocation:
    nodes = math.ceil(total / worker)
    if nodes == 1 or (head > 0 and math.ceil(total / head) == 1):
        return Allocation(1, total, 0)
    share = head or total - worker * (nodes - 1)
    if total > share + worker * (nodes - 1):
        raise InvalidWorkerSpec(
            f"{total} GPUs are needed (tensor times pipeline size), but the head's {share} and"
            f" {nodes - 1} workers with {worker} each make {share + worker * (nodes - 1)}.",
            fix="Raise the head's or the workers' GPU requests, or lower"
            " `spec.predictor.workerSpec.tensorParallelSize` or `pipelineParallelSize`.",
            reason="InvalidGPUAllocation",
        )
    return Allocation(nodes, share, worker)


def _worker_pod(template: Mapping[str, Any], own: Mapping[str, Any], runtime: str) -> Tree:
    base = find_container(template.get("containers") or (), WORKER_CONTAINER)
    if base is None:
        raise InvalidWorkerSpec(
            f"The `workerSpec` of the runtime `{runtime}` has no container `{WORKER_CONTAINER}`.",
            fix=f"Name the worker's container there `{WORKER_CONTAINER}`.",
        )
    given = list(own.get("containers") or ())
    container = merge_container(base, given[0]) if given else copy.deepcopy(base)
    level = {key: template[key] for key in _LEVEL if template.get(key)}
    return {**merge(level, pod.pod_fields(own)), "containers": [container]}


def _size(own: Mapping[str, Any], template: Mapping[str, Any], field: str) -> int:
    return int(own.get(field) or template.get(field) or 1)


class _GpuTypes:
    """Which extended resources count as GPUs."""

    def __init__(
        self, predictor: Mapping[str, Any], annotations: Mapping[str, str], config: ServingConfig
    ) -> None:
        listed = {**annotations, **(predictor.get("annotations") or {})}.get(GPU_RESOURCE_TYPES)
        try:
            extra = [str(name) for name in json.loads(listed)] if listed else []
        except (json.JSONDecodeError, TypeError) as error:
            raise InvalidWorkerSpec(
                f"The annotation `{GPU_RESOURCE_TYPES}` is not a JSON list: {error}.",
                fix='Write it like ["example.com/gpu"].',
            ) from error
        self.names = (*_GPUS, *config.multi_node.custom_gpu_resource_types, *extra)

    def _type_of(self, container: Tree) -> str:
        resources = container.get("resources") or {}
        for part in ("limits", "requests"):
            for name, amount in (resources.get(part) or {}).items():
                if name in self.names and _count(amount):
                    return str(name)
        return _GPUS[0]

    def requested(self, container: Tree) -> int:
        requests = (container.get("resources") or {}).get("requests") or {}
        limits = (container.get("resources") or {}).get("limits") or {}
        for name in self.names:
            found = _count(requests.get(name) or limits.get(name) or 0)
            if found:
                return found
        return 0

    def write(self, container: Tree, count: int) -> None:
        name = self._type_of(container)
        resources = container.setdefault("resources", {})
        for part in ("limits", "requests"):
            resources[part] = {**(resources.get(part) or {}), name: str(count)}


def _count(amount: Any) -> int:
    text = str(amount)
    return int(text) if text.isdigit() else 0
