"""The gateway: Envoy and the process that drives it, in one pod, and the Gateway they serve."""

from __future__ import annotations

from kedge.api.scheme import GATEWAY, GATEWAY_CLASS, SERVICE
from kedge.cluster.base import Object
from kedge.install import names
from kedge.install.objects.meta import make, selector
from kedge.install.objects.pods import OWN_PLACE, make_container, make_workload, probe
from kedge.install.values import Values

COMPONENT = "gateway"
_BOOTSTRAP = f"{names.RUN_DIR}/bootstrap.json"
_SHARED = {"name": "run", "mountPath": names.RUN_DIR}
_TMP = {"name": "tmp", "mountPath": "/tmp"}
_UNTIL_DRAINED = f"until test -e {names.RUN_DIR}/drained; do sleep 0.2; done"
"""Envoy goes on until the process beside it says that no request is in flight."""
_GRACE_SECONDS, _DRAIN_SECONDS = 120, 100
"""How long a pod may take to end, and its requests."""


def make_gateway_class(values: Values) -> list[Object]:
    spec = {"controllerName": names.GATEWAY_CONTROLLER}
    return [make(GATEWAY_CLASS, names.GATEWAY_CLASS, values, COMPONENT, spec=spec)]


def make_gateway(values: Values) -> list[Object]:
    return [_gateway(values, [_HTTP, _LOCAL])]


def make_tls_gateway(values: Values) -> list[Object]:
    """HTTPS besides, with the certificate of a Secret."""
    https = {
        **_HTTP,
        "name": "https",
        "port": 443,
        "protocol": "HTTPS",
        "tls": {"mode": "Terminate", "certificateRefs": [{"name": values.gateway.tls_secret}]},
    }
    return [_gateway(values, [_HTTP, https, _LOCAL])]


_HTTP: Object = {
    "name": "http",
    "port": 80,
    "protocol": "HTTP",
    "allowedRoutes": {"namespaces": {"from": "All"}},
}

_LOCAL: Object = {**_HTTP, "name": names.LOCAL_LISTENER, "port": names.LOCAL_PORT}
"""Services that are only for the cluster are bound to this one."""


def _gateway(values: Values, listeners: list[Object]) -> Object:
    spec = {"gatewayClassName": names.GATEWAY_CLASS, "listeners": listeners}
    return make(GATEWAY, names.GATEWAY, values, COMPONENT, spec=spec)


def make_gateway_pods(values: Values) -> list[Object]:
    wanted = values.gateway
    arguments = [
        "--namespace=$(POD_NAMESPACE)",
        f"--watch-namespace={values.watch_namespace}",
        f"--cluster-domain={values.cluster_domain}",
        f"--run-dir={names.RUN_DIR}",
        f"--drain-seconds={_DRAIN_SECONDS}",
    ]
    bootstrap = make_container(
        "bootstrap",
        values.image("gateway"),
        values,
        wanted.resources,
        args=["gateway", *arguments, f"--write-bootstrap={_BOOTSTRAP}"],
        env=OWN_PLACE,
        volumeMounts=[_SHARED, _TMP],
    )
    workload = make_workload(
        names.GATEWAY, COMPONENT, values, wanted, wanted.replicas,
        grace=_GRACE_SECONDS,
        initContainers=[bootstrap],
        containers=[_side(values, arguments), _envoy(values)],
        volumes=[{"name": "run", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    )  # fmt: skip
    return [_service(values), _local_service(values), *workload]


def _side(values: Values, arguments: list[str]) -> Object:
    """It is told at once that the pod is deleted, and ends when no request is in flight."""
    return make_container(
        COMPONENT,
        values.image("gateway"),
        values,
        values.gateway.resources,
        args=["gateway", *arguments],
        env=OWN_PLACE,
        ports=[
            {"name": "metrics", "containerPort": names.METRICS_PORT},
            {"name": "peers", "containerPort": names.PEERS_PORT},
        ],
        startupProbe=probe(_get("/healthz"), period=1, failures=60),
        livenessProbe=probe(_get("/healthz"), period=10, failures=3),
        readinessProbe=probe(_get("/readyz"), period=2, failures=2),
        volumeMounts=[_SHARED, _TMP],
    )


def _envoy(values: Values) -> Object:
    """Its listeners open with the first configuration, so an open port means that it has one."""
    port = {"tcpSocket": {"port": names.HTTP_PORT}}
    return make_container(
        "envoy",
        values.image("envoy"),
        values,
        values.gateway.envoy_resources,
        args=[
            # Envoy takes no `--option=value`.
            *("--config-path", _BOOTSTRAP),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        ],
        env=OWN_PLACE,
        ports=[
            {"name": "http", "containerPort": names.HTTP_PORT},
            {"name": "https", "containerPort": names.HTTPS_PORT},
            {"name": "local", "containerPort": names.LOCAL_PORT},
            {"name": "envoy-metrics", "containerPort": names.GATEWAY_METRICS_PORT},
        ],
        startupProbe=probe(port, period=1, failures=120),
        livenessProbe=probe(port, period=10, failures=6),
        readinessProbe=probe(port, period=2, failures=2),
        lifecycle={"preStop": {"exec": {"command": ["sh", "-c", _UNTIL_DRAINED]}}},
        volumeMounts=[_SHARED, _TMP],
    )


def _service(values: Values) -> Object:
    """For those outside the cluster."""
    spec = {
        "type": values.gateway.service_type,
        "selector": selector(COMPONENT),
        "ports": [
            _port("http", 80, names.HTTP_PORT),
            _port("https", 443, names.HTTPS_PORT),
        ],
    }
    annotations = values.gateway.service_annotations
    return make(SERVICE, names.GATEWAY, values, COMPONENT, annotations=annotations, spec=spec)


def _local_service(values: Values) -> Object:
    """For pods; and by its endpoints the gateway's pods know of each other."""
    ports = [
        _port("http", 80, names.LOCAL_PORT),
        _port("peers", names.PEERS_PORT, names.PEERS_PORT),
    ]
    spec = {"selector": selector(COMPONENT), "ports": ports}
    return make(SERVICE, names.GATEWAY_LOCAL, values, COMPONENT, spec=spec)


def _port(name: str, port: int, target: int) -> Object:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}


def _get(path: str) -> Object:
    return {"httpGet": {"path": path, "port": names.METRICS_PORT}}
