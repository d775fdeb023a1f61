"""`kedge controller`: the operator, in a pod of its own or beside any cluster."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer


def controller(
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
    address: Annotated[
        str, typer.Option(envvar="POD_IP", help="Where gateways reach this process.")
    ] = "127.0.0.1",
    signals_port: Annotated[
        int, typer.Option(help="Where gateways report their traffic; 0 for nowhere.")
    ] = 9444,
    metrics_port: Annotated[
        int, typer.Option(help="Where health and metrics are; 0 for nowhere.")
    ] = 9090,
    webhook_port: Annotated[
        int, typer.Option(help="Where the API server has objects reviewed; 0 for nowhere.")
    ] = 9443,
) -> None:
    """Run Kedge's controllers against a Kubernetes cluster; several may run, one works."""
    from kedge.modes.kubernetes import ControllerSettings, run_operator

    settings = ControllerSettings(
        os.environ.get("POD_NAME") or socket.gethostname().replace("_", "-"),
        address=address,
        namespace=namespace,
        watch_namespace=watch_namespace,
        cluster_domain=cluster_domain,
        kubeconfig=kubeconfig,
        signals_port=signals_port,
        metrics_port=metrics_port,
        webhook_port=webhook_port,
    )
    raise typer.Exit(run_operator(settings))
