"""The intermediate form between an InferenceService and its objects: its components.

A component knows its name, its metadata and its whole pod. What workloads it becomes, and which of
them get traffic, is decided later and differently per deployment mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.errors import BuildError
from kedge.controllers.inferenceservice.merge import Tree
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.runtime_selection import Selected
from kedge.settings.serving import DeploymentMode, ServingConfig


@dataclass(frozen=True)
class Warned:
    """A field that was understood but does not do here what its author expects."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class Worker:
    """The further nodes of a multi-node predictor.

    Attributes:
        pod: the worker's pod spec.
        replicas: worker nodes, without the head.
    """

    pod: Tree
    replicas: int


@dataclass(frozen=True)
class Component:
    """One part of a service, ready to become objects.

    Attributes:
        kind: predictor, transformer or explainer.
        name: of its Deployment or configuration and of its Service.
        variant: `predictor.name`; empty for most.
        spec: the component's spec with everything that scales and routes it.
        labels: of all its objects and pods.
        annotations: likewise.
        pod: its pod spec, storage included.
        runtime: what serves the model; None for containers.
        protocol: the model's protocol; may be empty.
        worker: further nodes.
        replicas: a count that nothing scales, for canaries.
        percent: share of the traffic, for canaries.
    """

    kind: ComponentKind
    name: str
    variant: str
    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    pod: Tree
    runtime: Selected | None = None
    protocol: str = ""
    worker: Worker | None = None
    replicas: int | None = None
    percent: int = 0

    @property
    def min_replicas(self) -> int:
        """The fewest pods asked for, 1 when nothing is said."""
        given = self.spec.get("minReplicas")
        return 1 if given is None else int(given)

    @property
    def fewest(self) -> int:
        """The fewest pods of it, whether the count is fixed or scaled."""
        return self.min_replicas if self.replicas is None else self.replicas

    @property
    def container_concurrency(self) -> int:
        """The most requests that one pod gets at a time; 0 for no limit."""
        return int(self.spec.get("containerConcurrency") or 0)

    @property
    def timeout(self) -> int | None:
        given = self.spec.get("timeout")
        return None if given is None else int(given)


@dataclass(frozen=True)
class ServicePlan:
    """An InferenceService, taken apart.

    Attributes:
        isvc: the resource with its defaults.
        mode: its deployment mode.
        components: those that could be built, in order.
        canaries: further predictors of Standard mode.
        errors: why the others could not be built.
        warnings: fields that do not do what one would expect.
    """

    isvc: Object
    mode: DeploymentMode
    config: ServingConfig
    cluster_domain: str
    components: Mapping[ComponentKind, Component]
    canaries: tuple[Component, ...] = ()
    errors: Mapping[ComponentKind, BuildError] = field(default_factory=dict)
    warnings: tuple[Warned, ...] = ()

    @property
    def name(self) -> str:
        return str(self.isvc["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.isvc["metadata"]["namespace"])

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.isvc["metadata"].get("annotations") or {}

    @property
    def labels(self) -> Mapping[str, str]:
        return self.isvc["metadata"].get("labels") or {}

    @property
    def entry(self) -> ComponentKind:
        """The component that requests reach first."""
        spec = self.isvc["spec"]
        transformed = spec.get(ComponentKind.TRANSFORMER.value) is not None
        return ComponentKind.TRANSFORMER if transformed else ComponentKind.PREDICTOR

    def kinds(self) -> list[ComponentKind]:
        """The components that the service has, built or not."""
        spec = self.isvc["spec"]
        return [kind for kind in ComponentKind if spec.get(kind.value) is not None]
