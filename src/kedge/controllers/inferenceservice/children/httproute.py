"""HTTPRoutes: every name under which a service is called, and which Services answer.

Per service: one route for itself, one per component (whose hosts are those of its Service), one
that goes by path or by the `kedge-service` header, and short-lived or tagged ones for single
revisions and canaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kedge.api.scheme import GATEWAY_GROUP, HTTP_ROUTE
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import names, urls
from kedge.controllers.inferenceservice.children.meta import make_object
from kedge.controllers.inferenceservice.children.service import Ports
from kedge.controllers.inferenceservice.components import Component, ServicePlan
from kedge.controllers.inferenceservice.metadata import component_annotations, without
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.pod import DEFAULT_TIMEOUT
from kedge.settings.installation import LOCAL_LISTENER

_EXPLAIN = r"^/v1/models/[\w-]+:explain$"
_GRPC_HEADER = {
    "name": "content-type", "type": "RegularExpression", "value": "^application/grpc.*",
}  # fmt: skip
_ROOT = {"type": "PathPrefix", "value": "/"}

Rule = dict[str, Any]
Match = dict[str, Any]


@dataclass(frozen=True)
class Backend:
    """A Service with its share of the requests."""

    service: str
    weight: int
    ports: Ports


Backends = Mapping[ComponentKind, Sequence[Backend]]


@dataclass(frozen=True)
class Shadow:
    """A Service that gets copies of requests that it does not answer.

    Attributes:
        candidate: the Service.
        beside: the Services that answer.
        percent: of a hundred requests, how many it gets a copy of.
    """

    candidate: Backend
    beside: Sequence[Backend]
    percent: int


def make_routes(
    plan: ServicePlan, backends: Backends, notes: Mapping[ComponentKind, str] | None = None
) -> list[Object]:
    """The routes of a service and its components.

    Args:
        plan: the service.
        backends: per component, the Services behind it; components without any have no route.
        notes: how far gradual rollouts of components are.
    """
    notes = notes or {}
    routes = [
        make_component_route(plan, component, backends[kind], notes.get(kind, ""))
        for kind, component in plan.components.items()
        if backends.get(kind)
    ]
    if backends.get(plan.entry):
        routes += [_service_route(plan, backends), _path_route(plan, backends)]
        if urls.domain_path(plan) and not urls.is_cluster_local(plan):
            routes.append(_domain_path_route(plan, backends))
    return routes


def make_component_route(
    plan: ServicePlan, component: Component, backends: Sequence[Backend], note: str = ""
) -> Object:
    """The route of one component's own Service.

    Args:
        note: how far its gradual rollout is.
    """
    hosts = _hosts(plan, names.component_name(plan.name, component.kind), component.name)
    rules = _rules(plan, backends, component.timeout)
    route = _make_route(plan, component.name, hosts, rules, component.kind.value)
    if note:
        route["metadata"].setdefault("annotations", {})[names.GRADUAL_ROLLOUT] = note
    return route


def make_single_route(
    plan: ServicePlan,
    name: str,
    component: Component,
    backend: Backend,
    *,
    external: bool = False,
) -> Object:
    """A route to one revision or canary alone.

    It shows that the gateway knows the pods before they get a share of the requests.

    Args:
        name: the route's name, and the Service name that its hosts are made from.
        external: whether it has a host outside the cluster too.
    """
    hosts = names.service_hosts(name, plan.namespace, plan.cluster_domain)
    if external and not urls.is_cluster_local(plan):
        hosts = [*urls.external_hosts(plan, name), *hosts]
    rules = _rules(plan, [backend], component.timeout)
    return _make_route(plan, name, hosts, rules, "single")


def add_shadows(route: Object, shadows: Iterable[Shadow]) -> None:
    """Have the rules of a route send copies, and the answers compared."""
    for shadow in shadows:
        for rule in route["spec"]["rules"]:
            port = _port_of_copies(rule, shadow)
            if port is None:
                continue
            backend = {"kind": "Service", "name": shadow.candidate.service, "port": port}
            mirror = {"backendRef": backend, "percent": shadow.percent}
            rule["filters"].append({"type": "RequestMirror", "requestMirror": mirror})
            annotations = route["metadata"].setdefault("annotations", {})
            annotations[names.COMPARE_MIRRORS] = "true"


def _port_of_copies(rule: Rule, shadow: Shadow) -> int | None:
    """The candidate's port for what the rule sends to the others; None for nothing."""
    ports = {backend.service: backend.ports for backend in shadow.beside}
    for ref in rule["backendRefs"]:
        theirs, its = ports.get(ref["name"]), shadow.candidate.ports
        if theirs is not None:
            return its.grpc if ref["port"] == theirs.grpc != theirs.rest else its.rest
    return None


def _service_route(plan: ServicePlan, backends: Backends) -> Object:
    hosts = _hosts(plan, plan.name, plan.name)
    rules: list[Rule] = []
    explainer = backends.get(ComponentKind.EXPLAINER)
    if explainer:
        match = {"path": {"type": "RegularExpression", "value": _EXPLAIN}}
        timeout = plan.components[ComponentKind.EXPLAINER].timeout
        rules.append(_rule(plan, [match], _rest_refs(explainer), timeout))
    entry = plan.components[plan.entry]
    rules += _rules(plan, backends[plan.entry], entry.timeout)
    return _make_route(plan, plan.name, hosts, rules, "service")


def _path_route(plan: ServicePlan, backends: Backends) -> Object:
    """Without hosts: by path, or by header where there is no path (gRPC)."""
    prefix = names.path_prefix(plan.namespace, plan.name)
    header = {
        "type": "Exact",
        "name": names.KEDGE_SERVICE_HEADER,
        "value": f"{plan.namespace}/{plan.name}",
    }
    entry = plan.components[plan.entry]
    rules = _prefix_rules(plan, backends, prefix)
    for rule in _rules(plan, backends[plan.entry], entry.timeout):
        for match in rule["matches"]:
            match["headers"] = [header, *match.get("headers", ())]
        rules.append(rule)
    return _make_route(plan, names.path_route(plan.name), [], rules, "path")


def _domain_path_route(plan: ServicePlan, backends: Backends) -> Object:
    """By the configured path under the domain itself."""
    prefix = f"{urls.domain_path(plan)}/"
    rules = _prefix_rules(plan, backends, prefix)
    hosts = [plan.config.ingress.ingress_domain]
    return _make_route(plan, f"{plan.name}-domain-path", hosts, rules, "path")


def _prefix_rules(plan: ServicePlan, backends: Backends, prefix: str) -> list[Rule]:
    """Rules that take `prefix` off. Explanations are asked for by the model's name, which is the
    service's."""
    rules = []
    explainer = backends.get(ComponentKind.EXPLAINER)
    if explainer:
        explain = f"/v1/models/{plan.name}:explain"
        match = {"path": {"type": "Exact", "value": prefix.rstrip("/") + explain}}
        rewrite = {"type": "ReplaceFullPath", "replaceFullPath": explain}
        timeout = plan.components[ComponentKind.EXPLAINER].timeout
        rules.append(_rule(plan, [match], _rest_refs(explainer), timeout, rewrite))
    entry = plan.components[plan.entry]
    match = {"path": {"type": "PathPrefix", "value": prefix}}
    rewrite = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
    refs = _rest_refs(backends[plan.entry])
    return [*rules, _rule(plan, [match], refs, entry.timeout, rewrite)]


def _hosts(plan: ServicePlan, external: str, service: str) -> list[str]:
    inside = names.service_hosts(service, plan.namespace, plan.cluster_domain)
    if urls.is_cluster_local(plan):
        return inside
    outside = [*urls.external_hosts(plan, external), *urls.external_hosts(plan, service)]
    return list(dict.fromkeys([*outside, *inside]))


def _rules(plan: ServicePlan, backends: Sequence[Backend], timeout: int | None) -> list[Rule]:
    """gRPC first, told by its content type, where a gRPC port is known; then everything else."""
    rules = []
    grpc = _refs(backends, "grpc")
    if grpc and _refs(backends, "rest"):
        match = {"path": _ROOT, "headers": [_GRPC_HEADER]}
        rules.append(_rule(plan, [match], grpc, timeout))
    return [*rules, _rule(plan, [{"path": _ROOT}], _rest_refs(backends), timeout)]


def _rest_refs(backends: Sequence[Backend]) -> list[dict[str, Any]]:
    """Where everything but gRPC goes; a server with one port for all gets it there."""
    return _refs(backends, "rest") or _refs(backends, "grpc")


def _refs(backends: Iterable[Backend], what: str) -> list[dict[str, Any]]:
    return [
        {"kind": "Service", "name": backend.service, "port": port, "weight": backend.weight}
        for backend in backends
        if (port := getattr(backend.ports, what)) is not None
    ]


def _rule(
    plan: ServicePlan,
    matches: Sequence[Match],
    refs: Sequence[dict[str, Any]],
    timeout: int | None,
    rewrite: Mapping[str, Any] | None = None,
) -> Rule:
    set_headers = [
        {"name": "KServe-Isvc-Name", "value": plan.name},
        {"name": "KServe-Isvc-Namespace", "value": plan.namespace},
    ]
    filters: list[dict[str, Any]] = [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": set_headers}}
    ]
    if rewrite is not None:
        filters.append({"type": "URLRewrite", "urlRewrite": {"path": dict(rewrite)}})
    rule: Rule = {
        "matches": [dict(match) for match in matches],
        "filters": filters,
        "backendRefs": [dict(ref) for ref in refs],
    }
    if not plan.config.ingress.disable_http_route_timeout:
        rule["timeouts"] = {"request": f"{DEFAULT_TIMEOUT if timeout is None else timeout}s"}
    return rule


def _make_route(
    plan: ServicePlan, name: str, hosts: Sequence[str], rules: Sequence[Rule], role: str
) -> Object:
    options = plan.config.inference_service
    labels = {
        **without(plan.labels, options.disallowed_labels),
        names.ISVC_LABEL: plan.name,
        names.ROUTE_ROLE_LABEL: role,
    }
    annotations = component_annotations([plan.annotations], options.disallowed_annotations)
    route = make_object(HTTP_ROUTE, plan.isvc, name, labels=labels, annotations=annotations)
    namespace, _, gateway = plan.config.own_gateway.partition("/")
    parent = {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace, "name": gateway}
    if urls.is_cluster_local(plan):
        parent["sectionName"] = LOCAL_LISTENER
    route["spec"] = {
        "parentRefs": [parent],
        **({"hostnames": list(hosts)} if hosts else {}),
        "rules": list(rules),
    }
    return route


def backends_of(route: Object, ports: Mapping[str, Ports]) -> list[Backend]:
    """The Services behind a component's route, with their shares; those in `ports` only."""
    weights: dict[str, int] = {}
    for rule in route["spec"].get("rules") or ():
        for ref in rule.get("backendRefs") or ():
            weights[ref["name"]] = int(ref.get("weight", 1))
    return [
        Backend(service, weight, ports[service])
        for service, weight in weights.items()
        if service in ports
    ]


def services_in(route: Object) -> set[str]:
    """Every Service that a route names."""
    return {
        str(ref["name"])
        for rule in route["spec"].get("rules") or ()
        for ref in rule.get("backendRefs") or ()
    }
