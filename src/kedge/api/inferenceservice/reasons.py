"""The reasons that an InferenceService's status gives; stable words for machines."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a condition is what it is."""

    STOPPED = "Stopped"
    RECONCILE_FAILED = "ReconcileFailed"
    INVALID_CONFIG = "InvalidConfig"
    INVALID_WORKER_SPEC = "InvalidWorkerSpecNotSet"
    INVALID_GPU_ALLOCATION = "InvalidGPUAllocation"

    PENDING = "Pending"
    DEPLOYING = "Deploying"
    PODS_NOT_READY = "PodsNotReady"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"

    ROUTE_NOT_CREATED = "RouteNotCreated"
    PARENT_STATUS_NOT_AVAILABLE = "ParentStatusNotAvailable"
    NO_READY_ENDPOINTS = "NoReadyEndpoints"
    NOT_ACKNOWLEDGED = "NotAcknowledged"

    ALL_CANARIES_READY = "AllCanariesReady"
    CANARIES_NOT_READY = "CanariesNotReady"

    MODEL_LOAD_FAILED = "ModelLoadFailed"
    RUNTIME_UNHEALTHY = "RuntimeUnhealthy"
    RUNTIME_DISABLED = "RuntimeDisabled"
    NO_SUPPORTING_RUNTIME = "NoSupportingRuntime"
    RUNTIME_NOT_RECOGNIZED = "RuntimeNotRecognized"
    INVALID_PREDICTOR_SPEC = "InvalidPredictorSpec"


FAILURE_REASONS = frozenset(
    {
        Reason.MODEL_LOAD_FAILED,
        Reason.RUNTIME_UNHEALTHY,
        Reason.RUNTIME_DISABLED,
        Reason.NO_SUPPORTING_RUNTIME,
        Reason.RUNTIME_NOT_RECOGNIZED,
        Reason.INVALID_PREDICTOR_SPEC,
    }
)
"""What `modelStatus.lastFailureInfo.reason` may be."""
