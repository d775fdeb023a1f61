"""What the gateway shall do, said without Kubernetes' words or Envoy's.

All of it is frozen and compared by value: an equal part need not be translated or sent again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class MatchKind(StrEnum):
    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A prefix is whole path elements, without a slash at its end; the empty one matches all."""

    kind: MatchKind = MatchKind.PREFIX
    value: str = ""


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header or a query parameter, by name and value."""

    name: str
    value: str
    kind: MatchKind = MatchKind.EXACT


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests; `inside`: only those that came by the listener of the pods."""

    path: PathMatch = PathMatch()
    method: str = ""
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    inside: bool = False

    @property
    def grpc_only(self) -> bool:
        return any(h.name == "content-type" and "application/grpc" in h.value for h in self.headers)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What of the request line changes on its way; `prefix` replaces the matched prefix."""

    host: str = ""
    prefix: str | None = None
    full_path: str | None = None


@dataclass(frozen=True, slots=True)
class HeaderChange:
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Backend:
    """A share of a route's requests.

    Attributes:
        cluster: name of the `Cluster`.
        weight: its share, relative to the route's other backends.
        http2: the cluster speaks HTTP/2, and so gRPC.
    """

    cluster: str
    weight: int = 1
    http2: bool = False
    request_headers: HeaderChange = HeaderChange()


MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where copies of requests go.

    Attributes:
        share: of a million requests, how many.
        compared: its answers are compared with those that clients get.
    """

    cluster: str
    http2: bool = False
    share: int = MILLION
    compared: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Requests of one kind and where they go.

    Attributes:
        service: what error answers and the access log call it, `namespace/name`: the
            InferenceService where there is one, else the HTTPRoute.
        timeout: seconds for the whole answer; 0 for no limit.
    """

    service: str
    match: Match = Match()
    backends: tuple[Backend, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    timeout: float = 0.0
    rewrite: Rewrite | None = None
    request_headers: HeaderChange = HeaderChange()
    response_headers: HeaderChange = HeaderChange()

    @property
    def grpc(self) -> bool:
        return any(backend.http2 for backend in self.backends)


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """Routes of a set of hosts, most specific first; the domain `*` is any other host.

    It is named after its first domain, which no other one has.
    """

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """One port of one Service.

    Attributes:
        name: `namespace/service/port`; a port that the Service does not have keeps the number.
        idle_timeout: seconds until an idle connection is closed by us, which must be before the
            server does it.
    """

    name: str
    http2: bool = False
    idle_timeout: float = 1.0


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    address: str
    port: int


WAITING_ROOM = "waiting-room"
"""Stands for the address where requests wait for a pod."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Requests may wait for a pod of this service.

    Attributes:
        concurrency: requests at once in a pod, a hard limit; 0 for none.
        cannot_start: why its pods cannot start; empty while they can, as far as is known.
        title: what answers call it, `namespace/name` of the InferenceService.
        no_room: why no node takes them; requests wait for one all the same.
        probe: how to ask a pod whether it is ready, `http://pod:PORT/PATH` or `tcp://pod:PORT`;
            empty where only the kubelet can tell.
    """

    concurrency: int = 0
    cannot_start: str = ""
    title: str = ""
    no_room: str = ""
    probe: str = ""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The ready endpoints of the cluster of that name; `hold` if there may be none for a while.

    Attributes:
        coming: those that are not ready yet, where they can be asked.
    """

    cluster: str
    ready: tuple[Endpoint, ...] = ()
    hold: Hold | None = None
    coming: tuple[Endpoint, ...] = ()

    @property
    def direct(self) -> tuple[Endpoint, ...]:
        """Those that Envoy may send to without asking."""
        return () if self.hold is not None and self.hold.concurrency else self.ready

    @property
    def targets(self) -> frozenset[str]:
        """The addresses that Envoy chooses from; `WAITING_ROOM` is one where requests may wait."""
        found = frozenset(end.address for end in self.direct)
        return found | {WAITING_ROOM} if self.hold is not None else found


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a route cannot be served as written; `condition` is the status condition to say so."""

    condition: str
    reason: str
    message: str


class Reference(NamedTuple):
    """What a route's parentRef says beside the Gateway's name."""

    section: str
    port: int


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a route is bound.

    Attributes:
        listeners: names of those that take it.
        hostnames: for which hosts; empty for any.
        refused: references of it that no listener takes, and why.
    """

    listeners: tuple[str, ...] = ()
    hostnames: tuple[str, ...] = ()
    refused: tuple[tuple[Reference, Problem], ...] = ()


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """One HTTPRoute, read.

    Attributes:
        generation: of the HTTPRoute that was read.
        hostnames: empty for any host.
        routes: most specific first.
        signature: equal for equal routes, whatever the HTTPRoute and its hosts are called.
        created: creation timestamp; the older of two equal rules wins.
        binding: what the Gateway's listeners make of it.
    """

    namespace: str
    name: str
    generation: int
    created: str
    hostnames: tuple[str, ...]
    routes: tuple[Route, ...]
    clusters: tuple[Cluster, ...]
    problems: tuple[Problem, ...] = ()
    binding: Binding = Binding()
    signature: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signature", hash(self.routes))

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name
