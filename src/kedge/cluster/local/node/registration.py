"""The Node object of this machine, and its Lease: what keeps the node known, and known to be well.

A Kubernetes API server's node controller takes a node for dead whose Lease is not renewed for 40 s,
and then evicts its pods; Kedge's own needs no Lease. The object is also where one sees what the
machine offers, what isolation its pods have, and which templates are warm.
"""

from __future__ import annotations

import asyncio
import json
import logging
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import kedge
from kedge.api.scheme import LEASE, NODE
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import AlreadyExists, ApiError, Conflict, NotFound
from kedge.cluster.local.node.host import wait_until
from kedge.cluster.local.node.sandbox import Sandboxes
from kedge.cluster.local.node.templates import Templates
from kedge.lib.backoff import Backoff
from kedge.lib.clock import Clock, format_time
from kedge.lib.errors import KedgeError
from kedge.settings.node import NodeSettings

log = logging.getLogger(__name__)

PROCESSES_LABEL = "serving.kedge.dev/processes"
"""On a Node: its pods are processes, and what knows only of containers should not come here."""
TEMPLATES_ANNOTATION = "serving.kedge.dev/templates"
"""On a Node: the warm templates, as JSON."""
LEASES = "kube-node-lease"

_HEARTBEAT = 60.0
_BETWEEN_WRITES = 2.0
_LEASE_SECONDS = 40
_RENEWAL = 10.0
_API_RETRY = Backoff(initial=0.05, limit=5.0)


class NodeTaken(KedgeError):
    """Another agent is responsible for the node of this name."""

    reason = "NodeTaken"


class Registration:
    """Keeps one Node object, and its Lease where `settings.leased`.

    Args:
        amounts: what the node offers; resource name -> amount.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: NodeSettings,
        clock: Clock,
        *,
        amounts: Mapping[str, Decimal],
        templates: Templates,
        sandboxes: Sandboxes,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._amounts = amounts
        self._templates = templates
        self._sandboxes = sandboxes
        self._began = clock.now()
        self._uid = ""

    async def check(self) -> None:
        """Make sure that the name is free, or was this kind of node's before.

        Raises:
            NodeTaken: a kubelet's node has that name.
        """
        try:
            found = await self._cluster.get(NODE, self._settings.name)
        except NotFound:
            return
        if PROCESSES_LABEL not in (found["metadata"].get("labels") or {}):
            raise NodeTaken(
                f"The cluster has a node {self._settings.name} that is not of `kedge node`.",
                fix="Choose another name with --name.",
            )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_node())
            if self._settings.leased:
                tasks.create_task(self._keep_lease())

    async def leave(self) -> None:
        """Say that nothing runs here any more."""
        status = {"conditions": self._conditions(False)}
        await self._cluster.patch(
            NODE, self._settings.name, {"status": status}, subresource="status"
        )

    # The Node.

    async def _keep_node(self) -> None:
        failures = 0
        while True:
            try:
                await self._write_node()
                failures = 0
                self._templates.changed.clear()
                await self._clock.sleep(_BETWEEN_WRITES)
                await wait_until(self._templates.changed, self._clock, _HEARTBEAT)
            except (ApiError, OSError) as error:
                failures += 1
                _tell(failures, "the Node object was not written", error)
                await self._clock.sleep(_API_RETRY.delay(failures))

    async def _write_node(self) -> None:
        node = self.make_node()
        try:
            found = await self._cluster.create(NODE, node)
        except AlreadyExists:
            metadata = {key: node["metadata"][key] for key in ("labels", "annotations")}
            found = await self._cluster.patch(NODE, self._settings.name, {"metadata": metadata})
        self._uid = found["metadata"]["uid"]
        await self._cluster.patch(
            NODE, self._settings.name, {"status": node["status"]}, subresource="status"
        )

    def make_node(self) -> Object:
        """The object as it should be now."""
        settings = self._settings
        amounts = {resource: _plain(amount) for resource, amount in self._amounts.items()}
        system, architecture = platform.system().lower(), _architecture()
        labels = {
            "kubernetes.io/hostname": settings.name,
            "kubernetes.io/os": system,
            "kubernetes.io/arch": architecture,
            **settings.labels,
        }
        annotations = {TEMPLATES_ANNOTATION: json.dumps(self._templates.describe())}
        addresses = [{"type": "InternalIP", "address": settings.address}]
        if not settings.port:
            # An API server that asks for logs would prefer a name that it cannot resolve.
            addresses.append({"type": "Hostname", "address": settings.name})
        status: Object = {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": self._conditions(True),
            "addresses": addresses,
            "nodeInfo": {
                "architecture": architecture,
                "operatingSystem": system,
                "kernelVersion": platform.release(),
                "osImage": platform.platform(),
                "containerRuntimeVersion": "kedge://processes",
                "kubeletVersion": f"kedge-{kedge.__version__}",
                "kubeProxyVersion": "",
                "machineID": _machine_id(),
                "systemUUID": "",
                "bootID": "",
            },
        }
        if settings.port:
            status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": settings.port}}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": settings.name, "labels": labels, "annotations": annotations},
            "spec": {"taints": list(map(dict, settings.taints))} if settings.taints else {},
            "status": status,
        }

    def _conditions(self, is_here: bool) -> list[Object]:
        refusal = self._sandboxes.isolation.refusal
        told = "pods run as processes" + (f"; less isolated: {refusal}" if refusal else "")
        gone = "the node agent has ended, and its pods with it"
        ready = ("AgentReady", told) if is_here else ("AgentStopped", gone)
        now = self._clock.now()
        since = self._began if is_here else now
        made = [_condition("Ready", is_here, ready, now, since)]
        if self._settings.leased:
            made += [
                _condition(type, False, ("NotWatched", "pods are told their limits"), now, since)
                for type in ("MemoryPressure", "DiskPressure", "PIDPressure")
            ]
        return made

    # The Lease.

    async def _keep_lease(self) -> None:
        failures = 0
        while True:
            try:
                await self._renew()
                if failures:
                    # Somebody may have taken the node for dead meanwhile.
                    await self._write_node()
                failures = 0
                await self._clock.sleep(_RENEWAL)
            except (ApiError, OSError) as error:
                failures += 1
                _tell(failures, "the node's Lease was not renewed", error)
                await self._clock.sleep(_API_RETRY.delay(failures))

    async def _renew(self) -> None:
        now = self._clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        name = self._settings.name
        spec = {"holderIdentity": name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": now}
        try:
            await self._cluster.patch(LEASE, name, {"spec": spec}, namespace=LEASES)
        except NotFound:
            await self._make_lease(spec)

    async def _make_lease(self, spec: Object) -> None:
        while not self._uid:
            # It goes with its Node, which has to be there first.
            await self._clock.sleep(_BETWEEN_WRITES / 10)
        name = self._settings.name
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self._uid}
        lease = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": name, "namespace": LEASES, "ownerReferences": [owner]},
            "spec": spec,
        }
        try:
            await self._cluster.create(LEASE, lease)
        except (AlreadyExists, Conflict):
            return


def _tell(failures: int, what: str, error: Exception) -> None:
    log.log(logging.WARNING if failures == 1 else logging.DEBUG, "%s: %s", what, error)


def _condition(
    type: str, status: bool, why: tuple[str, str], now: datetime, since: datetime
) -> Object:
    return {
        "type": type,
        "status": "True" if status else "False",
        "reason": why[0],
        "message": why[1],
        "lastHeartbeatTime": format_time(now),
        "lastTransitionTime": format_time(since),
    }


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


def _plain(amount: Decimal) -> str:
    whole = amount.to_integral_value()
    return str(int(whole)) if amount == whole else f"{int(amount * 1000)}m"
