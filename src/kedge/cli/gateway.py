"""`kedge gateway`: the process beside each Envoy of the gateway on Kubernetes."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer


def gateway(
    kubeconfig: Annotated[
        Path | None,
        typer.Option(help="The cluster; in a pod, its service account's.", show_default=False),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Where Kedge's own objects are.")] = "kedge",
    watch_namespace: Annotated[
        str, typer.Option(help="The one namespace to serve; all when empty.")
    ] = "",
    cluster_domain: Annotated[str, typer.Option(help="Domain of in-cluster names.")] = (
        "cluster.local"
    ),
    run_dir: Annotated[Path, typer.Option(help="The folder shared with Envoy.")] = Path(
        "/run/kedge"
    ),
    write_bootstrap: Annotated[
        Path | None,
        typer.Option(help="Write Envoy's bootstrap there and end.", show_default=False),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            envvar="KEDGE_BIND_ADDRESS",
            help="What Envoy's listeners bind; every address when empty.",
        ),
    ] = "",
    http_port: Annotated[int, typer.Option(help="Envoy's, for requests from outside.")] = 8080,
    https_port: Annotated[int, typer.Option(help="Envoy's, the same with TLS.")] = 8443,
    inside_port: Annotated[int, typer.Option(help="Envoy's, for requests of pods.")] = 8888,
    envoy_metrics_port: Annotated[int, typer.Option(help="Envoy's, for its metrics.")] = 9091,
    metrics_port: Annotated[
        int, typer.Option(help="Where health and metrics are; 0 for nowhere.")
    ] = 9090,
    peers_port: Annotated[
        int, typer.Option(help="Where the gateway's other replicas reach this process.")
    ] = 9445,
    drain_seconds: Annotated[
        float, typer.Option(help="How long requests may take when the pod is deleted.")
    ] = 100.0,
) -> None:
    """Drive the Envoy beside this process; each pod of the gateway runs one of both."""
    from kedge.modes.gateway import SideSettings, run_side
    from kedge.modes.gateway import write_bootstrap as write

    settings = SideSettings(
        os.environ.get("POD_NAME") or socket.gethostname().replace("_", "-"),
        namespace=namespace,
        watch_namespace=watch_namespace,
        cluster_domain=cluster_domain,
        kubeconfig=kubeconfig,
        run_dir=run_dir,
        address=address,
        http_port=http_port,
        https_port=https_port,
        inside_port=inside_port,
        envoy_metrics_port=envoy_metrics_port,
        metrics_port=metrics_port,
        peers_port=peers_port,
        drain_seconds=drain_seconds,
    )
    if write_bootstrap is not None:
        write(settings, write_bootstrap)
        raise typer.Exit
    raise typer.Exit(run_side(settings))
