"""`kedge rollout`: a new revision of the same spec, the candidate promoted or taken back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kedge.cli import output
from kedge.cli.apply import wait_for
from kedge.cli.options import Context, Kubeconfig, Namespace, ServiceName, Timeout, with_client

if TYPE_CHECKING:
    from kedge.client.control import ControlClient

app = typer.Typer(help="Roll a service out anew, or watch it roll out.", no_args_is_help=True)


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
        from kedge.client.rollouts import restart_patch

        change = partial(restart_patch, now=datetime.now(UTC))
        await _change(client, name, namespace, change, "restarted", timeout if wait else None)

    with_client(kubeconfig, context, work)


@app.command("promote")
def promote(
    name: ServiceName,
    canary: Annotated[
        str, typer.Option("--canary", metavar="NAME", help="Of several in `spec.canary`, this one.")
    ] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is Ready again.")] = False,
    timeout: Timeout = 120.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Give the newest revision, or a canary, all requests."""

    async def work(client: ControlClient) -> None:
        from kedge.client.rollouts import promote_patch

        change = partial(promote_patch, canary=canary)
        await _change(client, name, namespace, change, "promoted", timeout if wait else None)

    with_client(kubeconfig, context, work)


@app.command("undo")
def undo(
    name: ServiceName,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is Ready again.")] = False,
    timeout: Timeout = 120.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Give all requests back to the revision before, with the model files that it was made of.

    Where `spec.canary` has variants, they are removed.
    """

    async def work(client: ControlClient) -> None:
        from kedge.client.rollouts import undo_patch

        await _change(client, name, namespace, undo_patch, "rolled back", timeout if wait else None)

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


async def _change(
    client: ControlClient,
    name: str,
    namespace: str | None,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    done: str,
    timeout: float | None,
) -> None:
    """Patch a service by what it is now; then wait for it, unless `timeout` is None."""
    from kedge.api.scheme import INFERENCE_SERVICE

    service = await client.get(INFERENCE_SERVICE, name, namespace)
    stored = await client.patch(INFERENCE_SERVICE, name, change(service), namespace=namespace)
    output.say(f"inferenceservices.serving.kserve.io/{name} {done}")
    if timeout is not None:
        await wait_for(client, name, stored["metadata"]["namespace"], timeout)
