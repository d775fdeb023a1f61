"""Hosts and URLs of a service and of its components."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kedge.controllers.inferenceservice import names, placeholders
from kedge.controllers.inferenceservice.components import ServicePlan
from kedge.controllers.inferenceservice.errors import InvalidSpec

_CLUSTER_LOCAL = (
    "networking.kserve.io/visibility",
    "networking.knative.dev/visibility",
)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_STANDARD_PORTS = {"http": 80, "https": 443}


def is_cluster_local(plan: ServicePlan) -> bool:
    """Whether nothing outside the cluster shall reach the service."""
    ingress = plan.config.ingress
    return (
        any(plan.labels.get(key) == "cluster-local" for key in _CLUSTER_LOCAL)
        or ingress.disable_ingress_creation
        or ingress.ingress_domain == f"svc.{plan.cluster_domain}"
    )


def external_host(plan: ServicePlan, name: str) -> str:
    """The host outside the cluster of the service itself, or of one of its Services.

    Raises:
        InvalidSpec: the template makes no valid host of it.
    """
    return _host(plan, name, plan.config.ingress.ingress_domain)


def external_hosts(plan: ServicePlan, name: str) -> list[str]:
    """The same under every configured domain."""
    ingress = plan.config.ingress
    domains = dict.fromkeys((ingress.ingress_domain, *ingress.additional_ingress_domains))
    return list(dict.fromkeys(_host(plan, name, domain) for domain in domains))


def _host(plan: ServicePlan, name: str, domain: str) -> str:
    template = plan.config.ingress.domain_template
    host = str(placeholders.render(template, {**_data(plan, name), "IngressDomain": domain}))
    labels = host.split(".")
    wrong = [label for label in labels if not _LABEL.fullmatch(label)]
    if wrong or len(labels) < 2:
        problem = (
            f"its part `{wrong[0]}` is no DNS label ({len(wrong[0])} characters, at most 63,"
            " of a-z, 0-9 and -)"
            if wrong
            else "it has no domain"
        )
        raise InvalidSpec(
            f"The host `{host}` of `{name}` is not valid: {problem}.",
            fix="Use a shorter name or namespace, or correct `domainTemplate` in the ConfigMap"
            " inferenceservice-config, key `ingress`.",
        )
    return host


def domain_path(plan: ServicePlan) -> str:
    """The path under the domain from `pathTemplate`; empty when there is none."""
    template = plan.config.ingress.path_template
    return str(placeholders.render(template, _data(plan, plan.name))).rstrip("/")


def _data(plan: ServicePlan, name: str) -> dict[str, Any]:
    annotations: Mapping[str, str] = plan.annotations
    return {
        "Name": name,
        "Namespace": plan.namespace,
        "IngressDomain": plan.config.ingress.ingress_domain,
        "Annotations": annotations,
        "Labels": plan.labels,
    }


def service_url(plan: ServicePlan) -> str:
    """`status.url`: where the service answers from outside."""
    if is_cluster_local(plan):
        return in_cluster_url(plan, plan.name)
    ingress = plan.config.ingress
    path = domain_path(plan)
    if path:
        return f"{_origin(plan, ingress.ingress_domain)}{path}"
    return _origin(plan, external_host(plan, plan.name))


def component_url(plan: ServicePlan, component: str) -> str:
    """`status.components.X.url`."""
    if is_cluster_local(plan):
        return in_cluster_url(plan, component)
    return _origin(plan, external_host(plan, component))


def address_url(plan: ServicePlan, service: str, port: int | None = None) -> str:
    """`status.address.url`: where the service answers inside the cluster, or on this machine.

    Args:
        port: of a headless Service, whose callers reach the pods' own port.
    """
    base = plan.config.ingress.path_base_url.rstrip("/")
    if base:
        return base + names.path_prefix(plan.namespace, plan.name).rstrip("/")
    return in_cluster_url(plan, service) + (f":{port}" if port else "")


def in_cluster_url(plan: ServicePlan, service: str) -> str:
    return f"http://{service}.{plan.namespace}.svc.{plan.cluster_domain}"


def _origin(plan: ServicePlan, host: str) -> str:
    ingress = plan.config.ingress
    port = ingress.external_port
    shown = f":{port}" if port and port != _STANDARD_PORTS.get(ingress.url_scheme) else ""
    return f"{ingress.url_scheme}://{host}{shown}"
