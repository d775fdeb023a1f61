"""Where the gateway listens, and how it and its Envoy find each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kedge.settings.local import LocalSettings

LATENCY_BUCKETS = (
    0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000,
    3000, 5000, 7000, 10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 3_600_000,
)  # fmt: skip
"""Upper bounds, in milliseconds, by which Envoy counts how long requests took."""


@dataclass(frozen=True)
class GatewaySettings:
    """One gateway: an Envoy and the process that drives it.

    Attributes:
        xds_socket: unix socket on which Envoy asks for its configuration.
        admin_socket: unix socket of Envoy's admin interface; never a port.
        access_log: file of one line a request; None for no access log.
        host: the address that every listener binds.
        port: where inference requests come in.
        proxy_port: the pod-facing listener, `http_proxy` of every pod; None for no such listener.
        https_port: the same with TLS, by the certificates that the Gateway names; None for none.
        forwards: the pod-facing listener is a proxy to every host that is not a service's; else it
            answers for services alone.
        inside: name of the Gateway's listener that pods use. Routes that are bound to it are not
            answered on any other; empty where all listeners are of one kind.
        metrics_port: a listener with nothing but metrics at `/metrics`; None for none: Envoy's are
            then read through the admin socket (`/stats/prometheus`).
        service_metrics: where Envoy's own cluster of the API has the metrics of services; they are
            then at `/metrics`, and Envoy's at `/metrics/envoy`.
        gateway: `namespace/name` of the Gateway whose HTTPRoutes are served.
        service: `namespace/name` of the Service that leads clients to it; empty where they reach
            its listeners themselves.
        served_namespace: the only one whose routes are served, and nothing may be read that belongs
            to no namespace; empty for all.
        cluster_domain: domain of in-cluster names, `{svc}.{ns}.svc.{cluster_domain}`.
        away_seconds: how long Envoy may be gone before routes are said to answer no more; an Envoy
            that is restarted at once is back before anybody could act on the news.
        settle_seconds: from Envoy's acknowledgement until all its workers have taken the change in.
        max_held: requests that may wait for a pod of one revision; one more is answered 503.
    """

    xds_socket: Path
    admin_socket: Path
    access_log: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    https_port: int | None = None
    proxy_port: int | None = None
    forwards: bool = True
    inside: str = ""
    metrics_port: int | None = None
    service_metrics: str = ""
    gateway: str = "kedge/kedge-gateway"
    service: str = ""
    served_namespace: str = ""
    cluster_domain: str = "cluster.local"
    away_seconds: float = 3.0
    settle_seconds: float = 0.1
    max_held: int = 10_000

    @property
    def activation_socket(self) -> Path:
        """Unix socket on which Envoy asks which pod a request shall go to."""
        return self.xds_socket.with_name("activation.sock")

    @property
    def compare_socket(self) -> Path:
        """Unix socket on which Envoy tells the answers that are compared."""
        return self.xds_socket.with_name("compare.sock")

    @property
    def tls_folder(self) -> Path:
        """Folder of the certificates, which Envoy watches."""
        return self.xds_socket.with_name("tls")

    @classmethod
    def from_local(cls, settings: LocalSettings) -> GatewaySettings:
        """The gateway of `kedge up`."""
        return cls(
            xds_socket=settings.xds_socket,
            admin_socket=settings.admin_socket,
            access_log=settings.logs_dir / "access.log",
            host=settings.host,
            port=settings.port,
            proxy_port=settings.proxy_port or None,
            metrics_port=settings.metrics_port or None,
            service_metrics=settings.service_metrics,
            cluster_domain=settings.cluster_domain,
        )
