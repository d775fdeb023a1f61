"""The shape of an InferenceService's status; `status` has the verbs that write it."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
from lightkube.models import meta_v1

from kedge.api.conditions import Address, Condition


class TrafficTarget(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The share of one revision.

    Attributes:
        configurationName: the component's configuration.
        revisionName: the revision.
        latestRevision: whether this follows the latest ready revision.
        percent: share of the requests.
        tag: name under which this revision alone is reachable: `latest` or `prev`.
        url: where it is reachable by its tag.
    """

    configurationName: str | None = None
    revisionName: str | None = None
    latestRevision: bool | None = None
    percent: int | None = None
    tag: str | None = None
    url: str | None = None


class ComponentStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """State of one component.

    Attributes:
        latestReadyRevision: newest revision that was ready.
        latestCreatedRevision: newest revision.
        previousRolledoutRevision: revision that had all requests before the last promotion.
        latestRolledoutRevision: newest revision that had all requests.
        traffic: shares of the revisions.
        url: where the component alone is reachable.
        restUrl: its REST address.
        grpcUrl: its gRPC address.
        address: its address inside the cluster.
    """

    latestReadyRevision: str | None = None
    latestCreatedRevision: str | None = None
    previousRolledoutRevision: str | None = None
    latestRolledoutRevision: str | None = None
    traffic: list[TrafficTarget] | None = None
    url: str | None = None
    restUrl: str | None = None
    grpcUrl: str | None = None
    address: Address | None = None


ModelState = Literal["", "Pending", "Standby", "Loading", "Loaded", "FailedToLoad"]
TransitionStatus = Literal["", "UpToDate", "InProgress", "BlockedByFailedLoad", "InvalidSpec"]


class ModelStates(msgspec.Struct, kw_only=True, omit_defaults=True):
    """State of the model.

    Attributes:
        activeModelState: state of the model that answers requests.
        targetModelState: state of the model that was asked for last.
    """

    activeModelState: ModelState = "Pending"
    targetModelState: ModelState | None = None


class FailureInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The last failure; it stays after recovery.

    Attributes:
        location: where it happened: component, pod and container.
        reason: a CamelCase word.
        message: what happened and how to mend it.
        modelRevisionName: revision that failed.
        time: when.
        exitCode: the container's exit code.
    """

    location: str | None = None
    reason: str | None = None
    message: str | None = None
    modelRevisionName: str | None = None
    time: meta_v1.Time | None = None
    exitCode: int | None = None


class ModelCopies(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Pods that hold the model.

    Attributes:
        failedCopies: pods whose model failed.
        totalCopies: pods that are ready.
    """

    failedCopies: int = 0
    totalCopies: int | None = None


class ModelStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """State of the predictor's model.

    Attributes:
        transitionStatus: whether the model asked for is the one that answers.
        states: states of both.
        lastFailureInfo: the last failure.
        copies: pods that hold the model.
    """

    transitionStatus: TransitionStatus = "UpToDate"
    states: ModelStates | None = None
    lastFailureInfo: FailureInfo | None = None
    copies: ModelCopies | None = None


class CanaryStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """State of one canary variant.

    Attributes:
        name: the variant's name.
        ready: whether it has a ready pod.
        trafficPercent: share of the requests it gets while ready.
        modelStatus: state of its model.
    """

    name: str
    ready: bool
    trafficPercent: int
    modelStatus: ModelStatus | None = None


class InferenceServiceStatus(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is served now.

    Attributes:
        conditions: observations, sorted by type; Ready sums them up.
        observedGeneration: generation of the spec that this status is about.
        annotations: free annotations of the status.
        url: where requests go, from outside.
        address: where requests go, from inside the cluster.
        components: state of predictor, transformer and explainer.
        modelStatus: state of the predictor's model.
        canaryStatuses: states of the canary variants.
        deploymentMode: the mode that was chosen when the service was created; it does not change.
        servingRuntimeName: the ServingRuntime in use.
        clusterServingRuntimeName: the ClusterServingRuntime in use.
    """

    preserve_unknown_fields: ClassVar[bool] = True

    conditions: list[Condition] | None = None
    observedGeneration: int | None = None
    annotations: dict[str, str] | None = None
    url: str | None = None
    address: Address | None = None
    components: dict[str, ComponentStatus] | None = None
    modelStatus: ModelStatus | None = None
    canaryStatuses: list[CanaryStatus] | None = None
    deploymentMode: str | None = None
    servingRuntimeName: str | None = None
    clusterServingRuntimeName: str | None = None
