"""Proves that an installation serves: a service is made, asked through the gateway, and removed.

The request goes through the API server to the gateway's Service, so that it needs neither a load
balancer nor a way into the cluster's network.
"""

from __future__ import annotations

import contextlib

from kedge.api.scheme import INFERENCE_SERVICE, SERVICE
from kedge.cluster.base import Object
from kedge.cluster.errors import ApiError, NotFound
from kedge.install import names
from kedge.install.objects.pods import RESTRICTED, USER
from kedge.install.target import INSTALLER, Target, Tell
from kedge.install.values import Values
from kedge.install.waiting import Deadline

NAME = "kedge-probe"
_PORT = 8080
_ANSWER = "/v2/health/live"
_SERVER = (
    "import socket\n"
    "from http.server import BaseHTTPRequestHandler, HTTPServer\n"
    "if socket.has_dualstack_ipv6():\n"
    "    HTTPServer.address_family = socket.AF_INET6\n"
    "class Answer(BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200)\n"
    "        self.send_header('Content-Type', 'application/json')\n"
    "        self.end_headers()\n"
    "        self.wfile.write(b'{\"live\": true}')\n"
    f"HTTPServer(('', {_PORT}), Answer).serve_forever()\n"
)


def make_probe(values: Values) -> Object:
    """A service whose image every node of the controller has already."""
    container = {
        "name": "kserve-container",
        "image": values.image("controller"),
        "imagePullPolicy": values.image_pull_policy,
        "command": ["python", "-c", _SERVER],
        "ports": [{"containerPort": _PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": _ANSWER, "port": _PORT}, "periodSeconds": 1},
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "securityContext": RESTRICTED,
    }
    predictor = {
        "containers": [container],
        "imagePullSecrets": values.image_pull_secrets,
        # Nobody else asks it, and it does not heed SIGTERM.
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {"name": NAME, "namespace": values.watch_namespace or values.namespace},
        "spec": {"predictor": predictor},
    }


async def verify(cluster: Target, values: Values, deadline: Deadline, tell: Tell) -> None:
    """Make the service, wait until it is Ready, ask it once, remove it."""
    probe = make_probe(values)
    space = probe["metadata"]["namespace"]
    tell(f"Verifying by InferenceService {space}/{NAME}.")
    try:
        await cluster.apply(INFERENCE_SERVICE, probe, field_manager=INSTALLER)
        await _await_ready(cluster, space, deadline, tell)
        await _ask(cluster, values, space, deadline)
        tell("It was Ready, and answered through the gateway.")
    finally:
        with contextlib.suppress(NotFound):
            await cluster.delete(INFERENCE_SERVICE, NAME, space)


async def _await_ready(cluster: Target, space: str, deadline: Deadline, tell: Tell) -> None:
    said = ""
    while True:
        service = await cluster.get(INFERENCE_SERVICE, NAME, space)
        conditions = (service.get("status") or {}).get("conditions") or ()
        ready: Object = next((c for c in conditions if c["type"] == "Ready"), {})
        if ready.get("status") == "True":
            return
        line = f"{NAME}: {ready.get('reason') or 'Waiting'} {ready.get('message') or ''}".strip()
        if line != said:
            tell(line)
            said = line
        await deadline.pause(
            f"The service {space}/{NAME} did not become Ready. {line}",
            "Look at `kedge logs` and at the log of the controller; kedge install --no-verify"
            " leaves this out.",
        )


async def _ask(cluster: Target, values: Values, space: str, deadline: Deadline) -> None:
    gateway = SERVICE.path(values.namespace, f"{names.GATEWAY_LOCAL}:http")
    while True:
        try:
            await cluster.read(f"{gateway}/proxy/serving/{space}/{NAME}{_ANSWER}")
            return
        except ApiError as error:
            trouble = error.message
        await deadline.pause(
            f"The gateway does not answer for {space}/{NAME}: {trouble}",
            f"kubectl logs -n {values.namespace} deployment/{names.GATEWAY} --all-containers",
        )
