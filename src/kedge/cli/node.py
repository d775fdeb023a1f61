"""`kedge node`: this machine as a node of a Kubernetes cluster, for development."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Annotated

import typer


def _network(text: str) -> ipaddress.IPv4Network | None:
    try:
        found = ipaddress.IPv4Network(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if found is not None and (found.is_loopback or found.prefixlen > 29):
        raise typer.BadParameter("give an IPv4 network of 8 addresses or more, none of loopback")
    return found


def node(
    kubeconfig: Annotated[
        Path, typer.Option(envvar="KUBECONFIG", help="The cluster, with a node's rights.")
    ],
    name: Annotated[
        str, typer.Option(help="Of the Node; this machine's name and -kedge when empty.")
    ] = "",
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Its folder; ~/.kedge/nodes/NAME by default.", show_default=False),
    ] = None,
    pod_network: Annotated[
        str,
        typer.Option(help="Addresses of pods, as 198.18.1.0/24; one of 198.18.0.0/15 when empty."),
    ] = "",
    port: Annotated[
        int, typer.Option(help="Where the API server asks for logs; 0 for nowhere.")
    ] = 10250,
    services: Annotated[
        bool,
        typer.Option(
            "--services/--no-services",
            help="Answer at the addresses of Services here, and let pods know their names.",
        ),
    ] = True,
    cluster_domain: Annotated[str, typer.Option(help="Domain of in-cluster names.")] = (
        "cluster.local"
    ),
    taint: Annotated[
        bool, typer.Option(help="Let only pods come that tolerate serving.kedge.dev/processes.")
    ] = False,
) -> None:
    """Be a node of a Kubernetes cluster whose pods are processes of this machine."""
    from kedge.modes.node import NodeOptions, run_node
    from kedge.settings.local import default_data_dir

    chosen = name or f"{socket.gethostname().replace('_', '-').lower()}-kedge"
    folder = data_dir or default_data_dir() / "nodes" / chosen
    options = NodeOptions(
        kubeconfig,
        chosen,
        folder.expanduser().absolute(),
        network=_network(pod_network),
        port=port,
        tainted=taint,
        services=services,
        cluster_domain=cluster_domain,
    )
    raise typer.Exit(run_node(options))
