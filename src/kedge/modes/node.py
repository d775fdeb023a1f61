"""`kedge node`: this machine as a node of a Kubernetes cluster, its pods as processes.

For development: an API server with its controllers and scheduler is enough then, no kubelet and no
container engine. Pods end with this process; a later one of the same name starts them anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from kedge.api.scheme import ENDPOINT_SLICE, POD, SERVICE
from kedge.cluster.base import EventType, Object
from kedge.cluster.errors import Forbidden, NotFound
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.cluster.kubernetes.connection import connect_by_kubeconfig
from kedge.cluster.local.http import kubelet
from kedge.cluster.local.node import NodeAgent, loopback
from kedge.cluster.local.node.addresses import choose_network, room
from kedge.cluster.local.node.loopback import PodNetwork
from kedge.cluster.local.node.registration import PROCESSES_LABEL
from kedge.cluster.local.node.services import Services
from kedge.cluster.local.podlogs import PodLogs
from kedge.cluster.local.tls import ensure_certificate
from kedge.gateway.bootstrap import EnvoyNotFound, find_envoy
from kedge.install import names
from kedge.lib.addresses import IPV4
from kedge.lib.errors import KedgeError
from kedge.modes.http import HttpServer
from kedge.modes.part import run_process, when_told_to_stop
from kedge.reconcile import EventRecorder, Informer
from kedge.settings.local import runtime_dir
from kedge.settings.node import DEFAULT_IMAGES, Capacity, ImageRule, NodeSettings

log = logging.getLogger(__name__)

KUBELET_PORT = 10250
_MOST_PODS = 110


class NodeError(KedgeError):
    """This machine cannot be a node."""

    reason = "NodeNotStarted"


@dataclass(frozen=True)
class NodeOptions:
    """One `kedge node`.

    Attributes:
        kubeconfig: of the cluster, with a node's rights (`install.rights.NODE_RULES`).
        name: of the Node object.
        data_dir: of the pods' folders; one node per folder.
        network: of the pods' addresses; None chooses one.
        port: where the API server asks for logs; 0 for nowhere.
        tainted: only pods that tolerate `PROCESSES_LABEL` come here.
        services: give Services' addresses and names a meaning on this machine.
        cluster_domain: domain of in-cluster names.
    """

    kubeconfig: Path
    name: str
    data_dir: Path
    network: ipaddress.IPv4Network | None = None
    port: int = KUBELET_PORT
    tainted: bool = False
    services: bool = True
    cluster_domain: str = "cluster.local"


def node_settings(options: NodeOptions, network: PodNetwork, server: str) -> NodeSettings:
    """This machine as a node of the cluster whose API server is at `server`."""
    capacity = Capacity.of_this_machine()
    settings = NodeSettings(
        name=options.name,
        data_dir=options.data_dir,
        runtime_dir=runtime_dir(options.data_dir),
        capacity=replace(
            capacity,
            pods=min(_MOST_PODS, room(network.network)),
            disk=shutil.disk_usage(options.data_dir).free,
        ),
        address=network.node,
        pod_network=str(network.network),
        port=options.port,
        labels={PROCESSES_LABEL: "true"},
        taints=({"key": PROCESSES_LABEL, "value": "true", "effect": "NoSchedule"},)
        if options.tainted
        else (),
        leased=True,
        bound_claims=True,
        cluster_domain=options.cluster_domain,
        hosts_file=options.data_dir / "hosts" if options.services else None,
        images=(*_envoy(), *DEFAULT_IMAGES),
    )
    return replace(settings, environ={**settings.environ, **_api_environment(server)})


def _envoy() -> Iterator[ImageRule]:
    try:
        yield ImageRule("kedge/envoy*", (str(find_envoy()),))
    except EnvoyNotFound as error:
        log.warning("no gateway can run on this node: %s", error)


def _api_environment(server: str) -> dict[str, str]:
    """How pods find the API: nobody routes the address of the Service `kubernetes` here."""
    url = urlsplit(server)
    if url.scheme != "https" or not url.hostname:
        return {}
    port = str(url.port or 443)
    return {
        "KUBERNETES_SERVICE_HOST": url.hostname,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
    }


def run_node(options: NodeOptions) -> int:
    """The process of `kedge node`, until it is told to stop.

    Raises:
        KedgeError: it cannot be a node; the message says why.
    """

    async def main() -> None:
        task = asyncio.ensure_future(_serve(options))
        when_told_to_stop(task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return
        except BaseExceptionGroup as group:
            raise _cause(group) from group

    with _only_one(options.data_dir):
        run_process(main)
    return 0


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One part that cannot work ends them all: it alone is worth telling."""
    first = group.exceptions[0]
    return _cause(first) if isinstance(first, BaseExceptionGroup) else first


@contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    """Hold the folder, which another would take for its own."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "node.lock").open("w")
    except OSError as error:
        raise NodeError(
            f"The data directory {data_dir} cannot be used: {error}.",
            fix="Give a folder that you may write to with --data-dir.",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NodeError(
                f"A node runs on {data_dir} already.", fix="Give another --data-dir and --name."
            ) from None
        yield


async def _serve(options: NodeOptions) -> None:
    network = PodNetwork(options.network or choose_network(options.data_dir))
    network.open()
    try:
        connection = connect_by_kubeconfig(options.kubeconfig)
        settings = node_settings(options, network, connection.server)
        async with KubernetesCluster(connection, slim=True) as cluster:
            await _run_agent(cluster, settings)
    finally:
        network.close()


async def _run_agent(cluster: KubernetesCluster, settings: NodeSettings) -> None:
    pods = Informer(cluster, POD, fields=f"spec.nodeName={settings.name}")
    agent = NodeAgent(
        cluster,
        settings,
        pods=pods,
        events=EventRecorder(cluster, "kubelet"),
        request_token=cluster.request_token,
    )
    await agent.check()
    check_family(await _find_own_service(cluster))
    pods.on_change(_tell_of_gateways)
    async with contextlib.AsyncExitStack() as stack:
        if settings.port:
            await stack.enter_async_context(_log_server(settings, pods).running())
        log.info(
            "node %s: pods get addresses of %s, which this machine alone reaches; stop with Ctrl-C",
            settings.name, settings.pod_network,
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as tasks:
                if settings.hosts_file is not None:
                    _start_services(tasks, cluster, settings, settings.hosts_file)
                tasks.create_task(pods.run())
                tasks.create_task(agent.run())
        finally:
            await agent.leave()


async def _find_own_service(cluster: KubernetesCluster) -> Object | None:
    """The API server's, which every cluster has; None where we may not see it."""
    try:
        return await cluster.get(SERVICE, "kubernetes", "default")
    except (Forbidden, NotFound):
        return None


def check_family(service: Object | None) -> None:
    """Raise where Services are of another family than pods here, and so would never lead to one."""
    families = ((service or {}).get("spec") or {}).get("ipFamilies") or [IPV4]
    if IPV4 not in families:
        raise NodeError(
            "This cluster's Services have addresses of IPv6, and pods of this node have IPv4's.",
            fix="Have a kubelet run on this machine, or join a cluster whose Services have IPv4's.",
        )


def _start_services(
    tasks: asyncio.TaskGroup, cluster: KubernetesCluster, settings: NodeSettings, hosts: Path
) -> None:
    """Where it may not be done, pods do without."""
    if not loopback.may_change():
        log.warning("the addresses of Services are not answered here: that is root's right")
        return
    services, slices = Informer(cluster, SERVICE), Informer(cluster, ENDPOINT_SLICE)
    doors = Services(services, slices, hosts, settings.cluster_domain)
    for part in (services, slices, doors):
        tasks.create_task(part.run())


def _log_server(settings: NodeSettings, pods: Informer) -> HttpServer:
    certificate = ensure_certificate(
        settings.data_dir / "tls", names=(settings.name,), hosts=(settings.address,)
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.chain, certificate.key)
    app = kubelet.make_app(PodLogs(settings.pods_dir), pods.get)
    try:
        return HttpServer(app, settings.port, tls, host=settings.address)
    except OSError as error:
        raise NodeError(
            f"Port {settings.port} on {settings.address} cannot be used: {error.strerror}.",
            fix="Choose another with --port, 0 for none: kubectl logs needs it.",
        ) from error


def _tell_of_gateways(type: EventType, pod: Object, old: Object | None) -> None:
    """Where requests go in: nothing else on this machine leads to a gateway."""
    labels = pod["metadata"].get("labels") or {}
    ours = labels.get(names.PART_OF) == "kedge" and labels.get(names.COMPONENT) == "gateway"
    if ours and type is not EventType.DELETED and _is_ready(pod) and not _is_ready(old):
        address = pod["status"]["podIP"]
        log.info("a gateway is at http://%s:%d", address, names.HTTP_PORT)


def _is_ready(pod: Object | None) -> bool:
    conditions = ((pod or {}).get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
