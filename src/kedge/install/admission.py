"""How the API server is told to have Kedge's own kinds reviewed.

Nothing but Kedge's kinds and its own configuration is ever sent, and what cannot be reviewed is let
through: its status says later what the review would have said.
"""

from __future__ import annotations

from typing import Any

from kedge.api.scheme import SERVING_GROUP
from kedge.settings.installation import ADMISSION, WEBHOOK, WEBHOOK_PATH
from kedge.settings.serving import CONFIG_MAP_NAME

_SECONDS = 5


def make_admission(namespace: str, *, url: str = "") -> dict[str, Any]:
    """The ValidatingWebhookConfiguration; the controller puts its certificate authority into it.

    Args:
        namespace: where Kedge's own objects are.
        url: of a controller outside of the cluster; else its Service is asked.
    """
    service = {"name": WEBHOOK, "namespace": namespace, "path": WEBHOOK_PATH, "port": 443}
    client: dict[str, Any] = {"url": url} if url else {"service": service}
    serving = {
        "name": "serving.kedge.dev",
        "rules": [
            _rule(
                SERVING_GROUP, "*", "inferenceservices", "servingruntimes",
                "clusterservingruntimes", "clusterstoragecontainers",
            )
        ],
    }  # fmt: skip
    configuration = {
        "name": "configuration.kedge.dev",
        "rules": [_rule("", "v1", "configmaps")],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "matchConditions": [
            {"name": "kedge-configuration", "expression": f"request.name == '{CONFIG_MAP_NAME}'"}
        ],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": ADMISSION,
            "labels": {
                "app.kubernetes.io/managed-by": "kedge",
                "app.kubernetes.io/part-of": "kedge",
            },
        },
        "webhooks": [
            {
                **webhook,
                "admissionReviewVersions": ["v1"],
                "clientConfig": client,
                "failurePolicy": "Ignore",
                "matchPolicy": "Equivalent",
                "sideEffects": "None",
                "timeoutSeconds": _SECONDS,
            }
            for webhook in (serving, configuration)
        ],
    }


def _rule(group: str, version: str, *resources: str) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": ["CREATE", "UPDATE"],
        "resources": list(resources),
        "scope": "*",
    }
