"""What a person can choose about an installation: the file of `--values`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from kedge import __version__
from kedge.lib.errors import KedgeError
from kedge.settings.serving import DEFAULT_NAMESPACE


class ValuesError(KedgeError):
    """Values that cannot be used."""

    reason = "InvalidValues"


class _Section(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    pass


def _resources(
    cpu: str, memory: str, cpu_limit: str, memory_limit: str
) -> dict[str, dict[str, str]]:
    return {
        "requests": {"cpu": cpu, "memory": memory},
        "limits": {"cpu": cpu_limit, "memory": memory_limit},
    }


class Placement(_Section, frozen=True, kw_only=True):
    """Where pods may run, as in a pod."""

    node_selector: dict[str, str] = {}
    """Labels that a node must have."""
    tolerations: list[dict[str, Any]] = []
    """Taints that are borne."""


class Controller(Placement, frozen=True, kw_only=True):
    """The controller: one replica works, the others stand by."""

    replicas: int = 2
    """How many."""
    resources: dict[str, Any] = msgspec.field(
        default_factory=lambda: _resources("100m", "192Mi", "2", "768Mi")
    )
    """Requests and limits of its container."""


class Gateway(Placement, frozen=True, kw_only=True):
    """The gateway, through which requests come."""

    replicas: int = 2
    """How many."""
    service_type: Literal["LoadBalancer", "NodePort", "ClusterIP"] = "LoadBalancer"
    """How it is reached from outside the cluster."""
    service_annotations: dict[str, str] = {}
    """For the load balancer of your cloud."""
    tls_secret: str = ""
    """Secret of type kubernetes.io/tls, in the namespace of the installation, for HTTPS on port
    443; empty for none."""
    resources: dict[str, Any] = msgspec.field(
        default_factory=lambda: _resources("100m", "128Mi", "1", "512Mi")
    )
    """Requests and limits of the process that drives Envoy."""
    envoy_resources: dict[str, Any] = msgspec.field(
        default_factory=lambda: _resources("250m", "128Mi", "2", "1Gi")
    )
    """Requests and limits of Envoy."""


class Webhook(_Section, frozen=True, kw_only=True):
    """The admission webhook: it refuses or warns at once, and changes nothing."""

    enabled: bool = True
    """Without it, conditions say the same after the fact."""
    failure_policy: Literal["Ignore", "Fail"] = "Ignore"
    """What holds while it does not answer: `Ignore` lets everything pass. It is asked about Kedge's
    own kinds only, never about pods."""


class Ingress(_Section, frozen=True, kw_only=True):
    """Hosts of services; written into `inferenceservice-config` when that is made."""

    domain: str = "example.com"
    """Services get the host `{name}-{namespace}.{domain}`."""
    url_scheme: Literal["http", "https"] = "http"
    """Scheme of the URLs in statuses."""


class Switch(_Section, frozen=True, kw_only=True):
    """Something that can be left out."""

    enabled: bool = True
    """Whether it is installed."""


class Kubeflow(_Section, frozen=True, kw_only=True):
    """A place in Kubeflow."""

    enabled: bool = False
    """Let the roles of Kubeflow's profiles use services, and keep Istio's sidecar out."""


class Values(_Section, frozen=True, kw_only=True):
    """All of them."""

    namespace: str = DEFAULT_NAMESPACE
    """Where Kedge's own objects are."""
    create_namespace: bool = True
    """Whether that namespace is among the objects."""
    watch_namespace: str = ""
    """The one namespace whose services are served; empty for all. Kedge then needs no right to
    write anywhere else."""
    image_prefix: str = "kedge/"
    """What comes before the name of each image: your registry and folder, ending in `/`."""
    image_tag: str = __version__
    """Version of the images."""
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When images are pulled."""
    image_pull_secrets: list[dict[str, str]] = []
    """Secrets to pull them with, `[{name: ...}]`."""
    cluster_domain: str = "cluster.local"
    """Domain of in-cluster names."""
    default_deployment_mode: Literal["Knative", "Standard"] = "Knative"
    """Mode of services that name none; written into `inferenceservice-config` when that is made."""
    ingress: Ingress = Ingress()
    """Hosts of services."""
    controller: Controller = Controller()
    """The controller."""
    gateway: Gateway = Gateway()
    """The gateway."""
    webhook: Webhook = Webhook()
    """The admission webhook."""
    runtimes: Switch = Switch()
    """ClusterServingRuntimes for the common frameworks."""
    network_policy: Switch = Switch()
    """Only gateways may report traffic to the controller."""
    kubeflow: Kubeflow = Kubeflow()
    """A place in Kubeflow."""

    def image(self, name: str) -> str:
        return f"{self.image_prefix}{name}:{self.image_tag}"

    def has(self, condition: str) -> bool:
        """Whether a part with that condition is wanted: a path of names, `!` for its contrary."""
        found: Any = self
        path = condition.removeprefix("!")
        for name in path.split("."):
            found = getattr(found, name)
        return bool(found) != condition.startswith("!")


def parse_values(text: str, source: str = "values") -> Values:
    """Values of a YAML document; what it leaves out has its default."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValuesError(
            f"{source} is not YAML: {error}", fix="Correct the YAML at that line."
        ) from error
    try:
        return msgspec.convert(data or {}, Values)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        where = f" at `{place.strip('.`')}`" if place else ""
        raise ValuesError(
            f"{source}{where}: {problem}.",
            fix="Look the names up in deploy/helm/kedge/values.yaml, which has all of them.",
        ) from error


def read_values(path: Path | None) -> Values:
    """Values of a file; the defaults for none."""
    if path is None:
        return Values()
    try:
        return parse_values(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ValuesError(f"{path} cannot be read: {error}", fix="Give a YAML file.") from error
