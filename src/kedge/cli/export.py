"""`kedge export`: what was applied, as YAML that applies elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kedge.cli import output
from kedge.cli.options import Context, Kubeconfig, Namespace, complete_services, with_client

if TYPE_CHECKING:
    from kedge.client.control import ControlClient


def export(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Only these InferenceServices; else everything that was applied.",
            autocompletion=complete_services,
            show_default=False,
        ),
    ] = None,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Secrets too, with what they hold.")
    ] = False,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of every namespace.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print what was applied as YAML that applies elsewhere, without what the API added."""

    async def work(client: ControlClient) -> list[dict[str, Any]]:
        from kedge.client.exporting import exported

        return await exported(
            client, namespace, names=names or [], secrets=secrets, everywhere=everywhere
        )

    from kedge.client.exporting import local_uris
    from kedge.client.manifests import dump

    objects = with_client(kubeconfig, context, work)
    if objects:
        output.code(dump(objects), "yaml")
    else:
        output.note("Nothing was applied here.")
    for place, uri in local_uris(objects):
        output.warn(f"{place} reads {uri}, which only this machine has.")
