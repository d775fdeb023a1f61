"""Names that the installed objects and the processes in their pods agree on."""

from __future__ import annotations

from kedge.settings.installation import CONTROLLER as CONTROLLER
from kedge.settings.installation import GATEWAY as GATEWAY
from kedge.settings.installation import GATEWAY_LOCAL as GATEWAY_LOCAL
from kedge.settings.installation import LOCAL_LISTENER as LOCAL_LISTENER

GATEWAY_CLASS = "kedge"
GATEWAY_CONTROLLER = "kedge.dev/gateway"

PART_OF = "app.kubernetes.io/part-of"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
INSTALLATION = "serving.kedge.dev/installation"
"""Label of every installed object; its value is the namespace of the installation."""
MADE_NAMESPACE = "serving.kedge.dev/made-by-install"
"""Annotation of a namespace that an installation made, and so removes."""

HTTP_PORT, HTTPS_PORT, LOCAL_PORT, GATEWAY_METRICS_PORT = 8080, 8443, 8888, 9091
SIGNALS_PORT, METRICS_PORT, PEERS_PORT = 9444, 9090, 9445

RUN_DIR = "/run/kedge"
"""Folder that Envoy and its side process share."""
