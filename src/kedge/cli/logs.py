"""`kedge logs`: what a service's pods write, all of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kedge.cli import output
from kedge.cli.options import Context, Kubeconfig, Namespace, ServiceName, with_client

if TYPE_CHECKING:
    from kedge.client.control import ControlClient


def logs(
    name: ServiceName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more comes.")] = False,
    container: Annotated[
        str, typer.Option("--container", "-c", help="Else the container that serves the model.")
    ] = "",
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the run before the last restart.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(help="Only this many last lines of each pod.", show_default=False)
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print what a service's pods write; with several pods each line names its own.

    NAME may be a pod's, too. Where the model's container never ran, the init container that failed
    is shown.
    """

    async def work(client: ControlClient) -> None:
        await Reading(client, namespace, container, previous, tail).show(name, follow=follow)

    with_client(kubeconfig, context, work)


class Reading:
    """One `kedge logs`: which containers of which pods, and how much of them."""

    def __init__(
        self,
        client: ControlClient,
        namespace: str | None,
        container: str,
        previous: bool,
        tail: int | None,
    ) -> None:
        self._client, self._namespace = client, namespace
        self._container, self._previous, self._tail = container, previous, tail

    async def show(self, name: str, *, follow: bool) -> None:
        pods = await self._pods(name)
        if follow:
            await self._follow(name, pods)
            return
        for pod in pods:
            await self._print(pod, follow=False, named=len(pods) > 1)

    async def _pods(self, name: str) -> list[dict[str, Any]]:
        """The pods of the service; or the pod of that name."""
        from kedge.api.scheme import INFERENCE_SERVICE, POD
        from kedge.client.errors import ServiceFailed
        from kedge.cluster.errors import NotFound

        pods = list(await self._client.pods_of(name, self._namespace))
        if pods:
            return pods
        try:
            await self._client.get(INFERENCE_SERVICE, name, self._namespace)
        except NotFound as error:
            try:
                return [await self._client.get(POD, name, self._namespace)]
            except NotFound:
                error.fix = "`kedge get` lists the services that are there."
                raise error from None
        raise ServiceFailed(
            f"{name} has no pods.", fix=f"`kedge why {name}` tells what it waits for."
        )

    async def _follow(self, name: str, pods: list[dict[str, Any]]) -> None:
        """Every pod at once, and those that come later; ends when all have ended."""
        import asyncio

        known: set[str] = set()
        running: set[asyncio.Task[None]] = set()
        while True:
            for pod in pods:
                if pod["metadata"]["uid"] not in known:
                    known.add(pod["metadata"]["uid"])
                    named = len(known) > 1 or len(pods) > 1
                    running.add(asyncio.ensure_future(self._print(pod, follow=True, named=named)))
            done, running = await asyncio.wait(
                running, timeout=1.0, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
            pods = list(await self._client.pods_of(name, self._namespace))
            if not running and all(pod["metadata"]["uid"] in known for pod in pods):
                return

    async def _print(self, pod: dict[str, Any], *, follow: bool, named: bool) -> None:
        name = pod["metadata"]["name"]
        prefix = f"[{name}] " if named else ""
        async for line in self._client.logs(
            name,
            self._namespace,
            container=self._container or telling_container(pod),
            follow=follow,
            previous=self._previous,
            tail=self._tail,
        ):
            output.say(prefix + line.decode(errors="replace"))


def telling_container(pod: dict[str, Any]) -> str:
    """The container to read when none is named: the model's, or the init container that failed."""
    for status in (pod.get("status") or {}).get("initContainerStatuses") or []:
        state = status.get("state") or {}
        ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated")
        if ended and int(ended.get("exitCode") or 0) != 0:
            return str(status["name"])
    names = [str(container["name"]) for container in pod["spec"]["containers"]]
    return "kserve-container" if "kserve-container" in names else names[0]
