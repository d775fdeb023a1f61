"""The controller's pods, and how gateways, the API server and Prometheus reach them."""

from __future__ import annotations

from kedge.api.scheme import SERVICE
from kedge.cluster.base import Object
from kedge.install import names
from kedge.install.admission import make_admission
from kedge.install.kinds import NETWORK_POLICY, VALIDATING_WEBHOOK
from kedge.install.objects.meta import make, selector
from kedge.install.objects.pods import OWN_PLACE, make_container, make_workload, probe
from kedge.install.values import Values
from kedge.settings.installation import ADMISSION, WEBHOOK, WEBHOOK_PORT

COMPONENT = "controller"
_PORTS = {
    "metrics": names.METRICS_PORT,
    "webhook": WEBHOOK_PORT,
    "signals": names.SIGNALS_PORT,
}


def make_controller(values: Values) -> list[Object]:
    wanted = values.controller
    container = make_container(
        COMPONENT,
        values.image("controller"),
        values,
        wanted.resources,
        args=[
            "controller",
            "--namespace=$(POD_NAMESPACE)",
            f"--watch-namespace={values.watch_namespace}",
            f"--cluster-domain={values.cluster_domain}",
        ],
        env=OWN_PLACE,
        ports=[{"name": name, "containerPort": port} for name, port in _PORTS.items()],
        startupProbe=probe(_get("/healthz"), period=1, failures=60),
        livenessProbe=probe(_get("/healthz"), period=10, failures=3),
        readinessProbe=probe(_get("/readyz"), period=2, failures=2),
        volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}],
    )
    workload = make_workload(
        names.CONTROLLER, COMPONENT, values, wanted, wanted.replicas,
        grace=30,
        containers=[container],
        volumes=[{"name": "tmp", "emptyDir": {}}],
    )  # fmt: skip
    headless = {
        "clusterIP": "None",
        # Standing-by replicas are found as well: each says itself whether it leads.
        "publishNotReadyAddresses": True,
        "selector": selector(COMPONENT),
        "ports": [_port("metrics", names.METRICS_PORT), _port("signals", names.SIGNALS_PORT)],
    }
    # Clients ask through the API server; a replica that stands by asks the one that works.
    asked = {
        "selector": selector(COMPONENT),
        "ports": [{**_port("http", 80), "targetPort": names.METRICS_PORT}],
    }
    pages = [
        make(SERVICE, name, values, COMPONENT, spec=asked)
        for name in ("kedge-autoscaler", "kedge-telemetry")
    ]
    return [make(SERVICE, names.CONTROLLER, values, COMPONENT, spec=headless), *pages, *workload]


def make_webhook(values: Values) -> list[Object]:
    """The controller adds its certificate's authority (`caBundle`), and alone writes that field."""
    service = {
        "selector": selector(COMPONENT),
        "ports": [{**_port("webhook", 443), "targetPort": WEBHOOK_PORT}],
    }
    hooks = [
        {**hook, "failurePolicy": values.webhook.failure_policy}
        for hook in make_admission(values.namespace)["webhooks"]
    ]
    return [
        make(SERVICE, WEBHOOK, values, COMPONENT, spec=service),
        make(VALIDATING_WEBHOOK, ADMISSION, values, COMPONENT, webhooks=hooks),
    ]


def make_network_policy(values: Values) -> list[Object]:
    """Only gateways report traffic; the webhook and metrics are for whoever may ask."""
    policy = {
        "podSelector": {"matchLabels": selector(COMPONENT)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"ports": [_tcp(WEBHOOK_PORT), _tcp(names.METRICS_PORT)]},
            {
                "ports": [_tcp(names.SIGNALS_PORT)],
                "from": [{"podSelector": {"matchLabels": selector("gateway")}}],
            },
        ],
    }
    return [make(NETWORK_POLICY, names.CONTROLLER, values, COMPONENT, spec=policy)]


def _get(path: str) -> Object:
    return {"httpGet": {"path": path, "port": names.METRICS_PORT}}


def _port(name: str, port: int) -> Object:
    return {"name": name, "port": port, "protocol": "TCP"}


def _tcp(port: int) -> Object:
    return {"port": port, "protocol": "TCP"}
