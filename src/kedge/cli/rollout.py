"""`kedge rollout`: make a new revision of the same spec, and see how it gets on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kedge.cli import output
from kedge.cli.apply import wait_for
from kedge.cli.options import Context, Kubeconfig, Namespace, ServiceName, Timeout, with_client

if TYPE_CHECKING:
    from kedge.client.control import ControlClient

app = typer.Typer(help="Roll a service out anew, or watch it roll out.", no_args_is_help=True)

RESTARTED = "serving.kedge.dev/restarted-at"
"""Annotation on a component: changing it changes the pods and nothing else."""


@app.command("restart")
def restart(
    name: ServiceName,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is Ready again.")] = False,
    timeout: Timeout = 120.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Make a new revision from the same spec: pods are replaced, the model is read again.

    Requests are answered by the old pods until the new ones are ready.
    """

    async def work(client: ControlClient) -> None:
        from kedge.api.scheme import INFERENCE_SERVICE

        service = await client.get(INFERENCE_SERVICE, name, namespace)
        stored = await client.patch(
            INFERENCE_SERVICE, name, restart_patch(service, datetime.now(UTC)), namespace=namespace
        )
        output.say(f"inferenceservices.serving.kserve.io/{name} restarted")
        if wait:
            await wait_for(client, name, stored["metadata"]["namespace"], timeout)

    with_client(kubeconfig, context, work)


@app.command("status")
def status(
    name: ServiceName,
    timeout: Timeout = 120.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Wait until a service's newest form is Ready, telling where it is."""

    async def work(client: ControlClient) -> None:
        await wait_for(client, name, namespace or client.access.namespace, timeout)

    with_client(kubeconfig, context, work)


def restart_patch(service: dict[str, Any], now: datetime) -> dict[str, Any]:
    """A merge patch that changes the pods of every component and nothing else."""
    from kedge.client.why import COMPONENTS

    stamp = now.isoformat(timespec="milliseconds")
    present = [component for component in COMPONENTS if service["spec"].get(component)]
    return {"spec": {one: {"annotations": {RESTARTED: stamp}} for one in present}}
