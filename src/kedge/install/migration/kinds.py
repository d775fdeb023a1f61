"""Kinds of KServe and of what it builds on, which only a migration looks at."""

from __future__ import annotations

from kedge.api.scheme import LEGACY_SERVING_GROUP, SERVING_GROUP, Kind

KNATIVE_SERVING = "serving.knative.dev"

KNATIVE_SERVICE = Kind(KNATIVE_SERVING, "v1", "Service", "services", "")
VIRTUAL_SERVICE = Kind("networking.istio.io", "v1beta1", "VirtualService", "virtualservices", "")
INGRESS = Kind(
    "networking.k8s.io", "v1", "Ingress", "ingresses", "lightkube.models.networking_v1:Ingress"
)
SCALED_OBJECT = Kind("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects", "")
STATEFUL_SET = Kind(
    "apps", "v1", "StatefulSet", "statefulsets", "lightkube.models.apps_v1:StatefulSet", scale=True
)
MUTATING_WEBHOOK = Kind(
    "admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    "lightkube.models.admissionregistration_v1:MutatingWebhookConfiguration", namespaced=False,
)  # fmt: skip
LEGACY_SERVICE = Kind(
    LEGACY_SERVING_GROUP, "v1beta1", "InferenceService", "inferenceservices", "", status=True
)
LEGACY_TRAINED_MODEL = Kind(LEGACY_SERVING_GROUP, "v1alpha1", "TrainedModel", "trainedmodels", "")

UNSUPPORTED: tuple[tuple[Kind, str], ...] = (
    (
        Kind(SERVING_GROUP, "v1alpha1", "TrainedModel", "trainedmodels", ""),
        "Kedge has no multi-model agent: give each model an InferenceService of its own.",
    ),
    (
        LEGACY_TRAINED_MODEL,
        "Kedge has no multi-model agent: give each model an InferenceService of its own.",
    ),
    (
        Kind(SERVING_GROUP, "v1alpha1", "InferenceGraph", "inferencegraphs", ""),
        "Kedge has no graphs in this release: its router runs on as it is, changed by nobody.",
    ),
    (
        Kind(
            SERVING_GROUP, "v1alpha1", "LocalModelCache", "localmodelcaches", "", namespaced=False
        ),
        "Kedge fills no node caches: services that match one download their model.",
    ),
    (
        Kind(SERVING_GROUP, "v1alpha1", "LLMInferenceService", "llminferenceservices", ""),
        "Kedge does not know this kind: it stays with KServe's own controller for it.",
    ),
)  # fmt: skip
"""Kinds that Kedge does not serve, and what that means."""
