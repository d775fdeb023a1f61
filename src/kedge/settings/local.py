"""Where `kedge up` keeps its things, and the ports it listens on.

Standard library only: the supervisor imports this before anything else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PORT = 8080
DEFAULT_API_PORT = 8081


@dataclass(frozen=True)
class LocalSettings:
    """One local Kedge.

    Attributes:
        data_dir: everything that outlives `kedge up`; one Kedge per folder.
        host: the address that the gateway and the API listen on.
        port: the gateway's port, where inference requests come in.
        api_port: the port of the Kubernetes API.
        domain: domain of the hosts that services get, `{isvc}-{ns}.{domain}`.
        cluster_domain: domain of in-cluster names, `{svc}.{ns}.svc.{cluster_domain}`.
        node_name: the name of this machine's Node object.
        namespace: where Kedge's own objects live, `inferenceservice-config` among them.
        temp_dir: where the folder of unix sockets is made; `$TMPDIR` when None.
        proxy_port: the gateway's pod-facing listener; 0 until `kedge up` has picked one.
        metrics_port: where Envoy's own metrics are read; 0 until `kedge up` has picked one.
        envoy_workers: Envoy's threads that carry requests; None for a share of the cores.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    api_port: int = DEFAULT_API_PORT
    domain: str = "localhost"
    cluster_domain: str = "cluster.local"
    node_name: str = "local"
    namespace: str = "kedge"
    temp_dir: Path | None = None
    proxy_port: int = 0
    metrics_port: int = 0
    envoy_workers: int | None = None

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        data_dir: Path | None = None,
        port: int = DEFAULT_PORT,
        api_port: int = DEFAULT_API_PORT,
        envoy_workers: int | None = None,
    ) -> LocalSettings:
        """What the command line gave, then `KEDGE_HOME`, `CLUSTER_DOMAIN` and `TMPDIR`."""
        env = os.environ if environ is None else environ
        return cls(
            data_dir=(data_dir or default_data_dir(env)).expanduser().absolute(),
            port=port,
            api_port=api_port,
            cluster_domain=env.get("CLUSTER_DOMAIN") or "cluster.local",
            temp_dir=Path(env["TMPDIR"]) if env.get("TMPDIR") else None,
            envoy_workers=envoy_workers,
        )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> LocalSettings:
        raw = json.loads(text)
        raw["data_dir"] = Path(raw["data_dir"])
        raw["temp_dir"] = Path(raw["temp_dir"]) if raw["temp_dir"] else None
        return cls(**raw)

    @property
    def proxy_url(self) -> str:
        """What pods use as `http_proxy`."""
        return f"http://{self.host}:{self.proxy_port}"

    @property
    def metrics_url(self) -> str:
        """The services' metrics, in Prometheus' format; Envoy's own are at `/envoy` below it."""
        return f"http://{self.host}:{self.metrics_port}/metrics"

    @property
    def service_metrics(self) -> str:
        """The path under which the API has the services' metrics."""
        return f"/api/v1/namespaces/{self.namespace}/services/kedge-telemetry:http/proxy/metrics"

    @property
    def url(self) -> str:
        """Where inference requests go in path form."""
        return f"http://{self.host}:{self.port}"

    @property
    def api_url(self) -> str:
        return f"https://{self.host}:{self.api_port}"

    @property
    def runtime_dir(self) -> Path:
        return runtime_dir(self.data_dir, self.temp_dir)

    @property
    def api_socket(self) -> Path:
        """The Kubernetes API for Kedge's own processes."""
        return self.runtime_dir / "api.sock"

    @property
    def xds_socket(self) -> Path:
        """Where Envoy asks for its configuration."""
        return self.runtime_dir / "xds.sock"

    @property
    def admin_socket(self) -> Path:
        """Envoy's admin interface."""
        return self.runtime_dir / "admin.sock"

    @property
    def signals_socket(self) -> Path:
        """Where the gateway reports its traffic to the autoscaler."""
        return self.runtime_dir / "signals.sock"

    @property
    def kubeconfig(self) -> Path:
        return self.data_dir / "kubeconfig"

    @property
    def pid_file(self) -> Path:
        return self.data_dir / "kedge.pid"

    @property
    def store(self) -> Path:
        return self.data_dir / "store" / "kedge.db"

    @property
    def telemetry(self) -> Path:
        """What became of requests, for a day."""
        return self.data_dir / "telemetry.db"

    @property
    def tls_dir(self) -> Path:
        return self.data_dir / "tls"

    @property
    def token_file(self) -> Path:
        return self.data_dir / "token"

    @property
    def envoy_dir(self) -> Path:
        return self.data_dir / "envoy"

    @property
    def pods_dir(self) -> Path:
        return self.data_dir / "pods"

    @property
    def volumes_dir(self) -> Path:
        """Folders of PersistentVolumeClaims."""
        return self.data_dir / "volumes"

    @property
    def models_dir(self) -> Path:
        """Copies of the models that revisions are pinned to."""
        return self.data_dir / "models"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    @property
    def images_file(self) -> Path:
        """The user's own image mappings, read over the built-in ones."""
        return self.data_dir / "images.yaml"


def default_data_dir(environ: Mapping[str, str] | None = None) -> Path:
    """`$KEDGE_HOME`, else `~/.kedge`."""
    env = os.environ if environ is None else environ
    home = env.get("KEDGE_HOME")
    return Path(home) if home else Path("~/.kedge").expanduser()


def runtime_dir(data_dir: Path, temp_dir: Path | None = None) -> Path:
    """The folder of unix sockets: short, since their paths end at 107 bytes."""
    digest = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:8]
    parent = temp_dir or Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
    return parent / f"kedge-{os.getuid()}-{digest}"
