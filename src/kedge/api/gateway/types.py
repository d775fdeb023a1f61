"""The shape of HTTPRoute and Gateway, `gateway.networking.k8s.io/v1`.

The fields that Kedge writes are typed; what Gateway API has beyond them is kept as it is
(`preserve_unknown_fields`).
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from lightkube.models import meta_v1


class _Tolerant(msgspec.Struct, kw_only=True, omit_defaults=True):
    preserve_unknown_fields: ClassVar[bool] = True


class ParentReference(_Tolerant, kw_only=True, omit_defaults=True):
    """The Gateway that a route belongs to.

    Attributes:
        name: the Gateway's name.
        namespace: its namespace; the route's own when unset.
        group: its API group.
        kind: its kind, `Gateway` when unset.
        sectionName: one listener of it.
        port: listeners of it on this port.
    """

    name: str
    namespace: str | None = None
    group: str | None = None
    kind: str | None = None
    sectionName: str | None = None
    port: int | None = None


class PathMatch(_Tolerant, kw_only=True, omit_defaults=True):
    """Which paths match.

    Attributes:
        type: `PathPrefix`, `Exact` or `RegularExpression`.
        value: the path.
    """

    type: str | None = None
    value: str | None = None


class HeaderMatch(_Tolerant, kw_only=True, omit_defaults=True):
    """Which value of a header or query parameter matches.

    Attributes:
        name: the header.
        value: its value.
        type: `Exact` or `RegularExpression`.
    """

    name: str
    value: str
    type: str | None = None


class RouteMatch(_Tolerant, kw_only=True, omit_defaults=True):
    """Which requests a rule is for; all parts must match.

    Attributes:
        path: the path.
        headers: the headers.
        queryParams: the query parameters.
        method: the HTTP method.
    """

    path: PathMatch | None = None
    headers: list[HeaderMatch] | None = None
    queryParams: list[HeaderMatch] | None = None
    method: str | None = None


class BackendRef(_Tolerant, kw_only=True, omit_defaults=True):
    """Where requests go.

    Attributes:
        name: the Service.
        namespace: its namespace; the route's own when unset.
        group: its API group.
        kind: its kind, `Service` when unset.
        port: its port.
        weight: its share among the rule's backends, 1 when unset.
        filters: changes for this backend alone.
    """

    name: str
    namespace: str | None = None
    group: str | None = None
    kind: str | None = None
    port: int | None = None
    weight: int | None = None
    filters: list[RouteFilter] | None = None


class Header(_Tolerant, kw_only=True, omit_defaults=True):
    """A header and its value.

    Attributes:
        name: the header.
        value: its value.
    """

    name: str
    value: str


class HeaderModifier(_Tolerant, kw_only=True, omit_defaults=True):
    """Changes headers.

    Attributes:
        set: headers to overwrite.
        add: headers to append.
        remove: headers to remove.
    """

    set: list[Header] | None = None
    add: list[Header] | None = None
    remove: list[str] | None = None


class PathModifier(_Tolerant, kw_only=True, omit_defaults=True):
    """Changes the path.

    Attributes:
        type: `ReplaceFullPath` or `ReplacePrefixMatch`.
        replaceFullPath: the new path.
        replacePrefixMatch: what replaces the matched prefix.
    """

    type: str
    replaceFullPath: str | None = None
    replacePrefixMatch: str | None = None


class UrlRewrite(_Tolerant, kw_only=True, omit_defaults=True):
    """Changes the URL.

    Attributes:
        hostname: the new host.
        path: the new path.
    """

    hostname: str | None = None
    path: PathModifier | None = None


class Fraction(_Tolerant, kw_only=True, omit_defaults=True):
    """A share.

    Attributes:
        numerator: how many.
        denominator: of how many; 100 where nothing is said.
    """

    numerator: int
    denominator: int | None = None


class RequestMirror(_Tolerant, kw_only=True, omit_defaults=True):
    """Sends a copy elsewhere and ignores the answer.

    Attributes:
        backendRef: where to.
        percent: share of the requests, in percent; all where nothing is said.
        fraction: the share as a fraction, instead of `percent`.
    """

    backendRef: BackendRef
    percent: int | None = None
    fraction: Fraction | None = None


class RouteFilter(_Tolerant, kw_only=True, omit_defaults=True):
    """A change on the way.

    Attributes:
        type: which of the others counts: `RequestHeaderModifier`, `ResponseHeaderModifier`,
            `URLRewrite`, `RequestMirror`, `RequestRedirect` or `ExtensionRef`.
        requestHeaderModifier: changes request headers.
        responseHeaderModifier: changes response headers.
        urlRewrite: changes the URL.
        requestMirror: sends a copy elsewhere.
        requestRedirect: answers with a redirect.
        extensionRef: an implementation's own filter.
    """

    type: str
    requestHeaderModifier: HeaderModifier | None = None
    responseHeaderModifier: HeaderModifier | None = None
    urlRewrite: UrlRewrite | None = None
    requestMirror: RequestMirror | None = None
    requestRedirect: dict[str, Any] | None = None
    extensionRef: dict[str, Any] | None = None


class RouteTimeouts(_Tolerant, kw_only=True, omit_defaults=True):
    """Time-outs as Gateway API durations (`60s`); `0s` is none.

    Attributes:
        request: from the first byte of the request to the last of the answer.
        backendRequest: one attempt at a backend.
    """

    request: str | None = None
    backendRequest: str | None = None


class RouteRule(_Tolerant, kw_only=True, omit_defaults=True):
    """Requests and where they go.

    Attributes:
        name: the rule's name.
        matches: which requests; any of them suffices; all requests when empty.
        filters: changes on the way.
        backendRefs: where to, by weight.
        timeouts: time-outs.
    """

    name: str | None = None
    matches: list[RouteMatch] | None = None
    filters: list[RouteFilter] | None = None
    backendRefs: list[BackendRef] | None = None
    timeouts: RouteTimeouts | None = None


class HTTPRouteSpec(_Tolerant, kw_only=True, omit_defaults=True):
    """Hosts and rules.

    Attributes:
        parentRefs: Gateways that the route belongs to.
        hostnames: hosts it is for; the listener's when empty.
        rules: requests and where they go.
    """

    parentRefs: list[ParentReference] | None = None
    hostnames: list[str] | None = None
    rules: list[RouteRule] | None = None


class RouteParentStatus(_Tolerant, kw_only=True, omit_defaults=True):
    """What a gateway says about the route.

    Attributes:
        parentRef: the Gateway.
        controllerName: who writes this.
        conditions: observations.
    """

    parentRef: ParentReference
    controllerName: str
    conditions: list[meta_v1.Condition] | None = None


class HTTPRouteStatus(_Tolerant, kw_only=True, omit_defaults=True):
    """What the gateways say.

    Attributes:
        parents: one entry for each Gateway.
    """

    parents: list[RouteParentStatus] | None = None


class HTTPRoute(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Which HTTP requests go to which Services.

    Attributes:
        apiVersion: `gateway.networking.k8s.io/v1`.
        kind: `HTTPRoute`.
        metadata: standard object metadata.
        spec: hosts and rules.
        status: what the gateways say.
    """

    apiVersion: str | None = None
    kind: str | None = None
    metadata: meta_v1.ObjectMeta | None = None
    spec: HTTPRouteSpec
    status: HTTPRouteStatus | None = None


class Listener(_Tolerant, kw_only=True, omit_defaults=True):
    """A port that a Gateway listens on.

    Attributes:
        name: the listener's name.
        port: the port.
        protocol: `HTTP`, `HTTPS`, `TLS`, `TCP` or `UDP`.
        hostname: hosts it is for.
        tls: certificates.
        allowedRoutes: which routes may use it.
    """

    name: str
    port: int
    protocol: str
    hostname: str | None = None
    tls: dict[str, Any] | None = None
    allowedRoutes: dict[str, Any] | None = None


class GatewaySpec(_Tolerant, kw_only=True, omit_defaults=True):
    """Where requests come in.

    Attributes:
        gatewayClassName: which implementation serves it.
        listeners: ports.
    """

    gatewayClassName: str
    listeners: list[Listener] | None = None


class GatewayStatusAddress(_Tolerant, kw_only=True, omit_defaults=True):
    """An address of the gateway.

    Attributes:
        type: `IPAddress` or `Hostname`.
        value: the address.
    """

    type: str | None = None
    value: str | None = None


class GatewayStatus(_Tolerant, kw_only=True, omit_defaults=True):
    """What the implementation says.

    Attributes:
        addresses: where the gateway is.
        conditions: observations.
        listeners: one entry for each listener.
    """

    addresses: list[GatewayStatusAddress] | None = None
    conditions: list[meta_v1.Condition] | None = None
    listeners: list[dict[str, Any]] | None = None


class Gateway(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where requests come in.

    Attributes:
        apiVersion: `gateway.networking.k8s.io/v1`.
        kind: `Gateway`.
        metadata: standard object metadata.
        spec: ports.
        status: what the implementation says.
    """

    apiVersion: str | None = None
    kind: str | None = None
    metadata: meta_v1.ObjectMeta | None = None
    spec: GatewaySpec
    status: GatewayStatus | None = None


class GatewayClassSpec(_Tolerant, kw_only=True, omit_defaults=True):
    """Whose Gateways.

    Attributes:
        controllerName: the implementation that serves them.
        description: for people.
    """

    controllerName: str
    description: str | None = None


class GatewayClassStatus(_Tolerant, kw_only=True, omit_defaults=True):
    """What the implementation says.

    Attributes:
        conditions: observations.
    """

    conditions: list[meta_v1.Condition] | None = None


class GatewayClass(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Gateways of one implementation.

    Attributes:
        apiVersion: `gateway.networking.k8s.io/v1`.
        kind: `GatewayClass`.
        metadata: standard object metadata.
        spec: whose they are.
        status: what the implementation says.
    """

    apiVersion: str | None = None
    kind: str | None = None
    metadata: meta_v1.ObjectMeta | None = None
    spec: GatewayClassSpec
    status: GatewayClassStatus | None = None
