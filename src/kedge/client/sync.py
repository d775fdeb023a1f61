"""The SDK without `await`: for scripts, notebooks and the command line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from kedge.api.scheme import INFERENCE_SERVICE, Kind
from kedge.client.control import ControlClient
from kedge.client.inference import InferenceClient, Target
from kedge.client.kubeconfig import Access, discover
from kedge.client.manifests import Manifest, read_manifests
from kedge.client.waiting import Object, Progress
from kedge.client.why import Explanation, explain, gather

T = TypeVar("T")


def blocking(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine; works inside a notebook, where a loop runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, "kedge-client") as threads:
        return threads.submit(asyncio.run, work).result()


class Kedge:
    """One Kedge, found as the command line finds it unless `access` says which.

    ::

        kedge = Kedge()
        kedge.apply("iris.yaml")
        kedge.wait("iris")
        kedge.predict("iris", [[6.8, 2.8, 4.8, 1.4]])
    """

    def __init__(self, access: Access | None = None) -> None:
        self.access = access or discover()

    def apply(self, source: str | Path | Object) -> list[Object]:
        """Server-side apply of an object, or of the manifests in a file or folder."""

        async def work(client: ControlClient) -> list[Object]:
            if isinstance(source, dict):
                manifests = [Manifest(source, "the object")]
            else:
                manifests = read_manifests([str(source)])
            return [(await client.apply(m.object, where=m.where))[1] for m in manifests]

        return self._with_client(work)

    def get(
        self, name: str, namespace: str | None = None, *, kind: Kind = INFERENCE_SERVICE
    ) -> Object:
        return self._with_client(lambda client: client.get(kind, name, namespace))

    def list(self, namespace: str | None = None, *, kind: Kind = INFERENCE_SERVICE) -> list[Object]:
        async def work(client: ControlClient) -> list[Object]:
            return (await client.list(kind, namespace)).items

        return self._with_client(work)

    def wait(
        self,
        name: str,
        namespace: str | None = None,
        *,
        timeout: float = 120.0,
        progress: Callable[[Progress, Object], None] | None = None,
    ) -> Object:
        """The service once it is Ready; see `ControlClient.wait_ready`."""
        return self._with_client(
            lambda client: client.wait_ready(name, namespace, timeout=timeout, progress=progress)
        )

    def predict(
        self, name: str, data: Any, protocol: str = "v1", namespace: str | None = None
    ) -> Any:
        """The answer to rows, or to a V1 or V2 body, over `v1`, `v2` or `grpc`."""

        async def work(client: ControlClient) -> Any:
            service = await client.get(INFERENCE_SERVICE, name, namespace)
            async with InferenceClient(Target.of(service)) as inference:
                return await inference.predict(data, protocol)

        return self._with_client(work)

    def why(self, name: str, namespace: str | None = None) -> Explanation:
        """Why a service is as it is."""

        async def work(client: ControlClient) -> Explanation:
            return explain(await gather(client, name, namespace))

        return self._with_client(work)

    def delete(
        self, name: str, namespace: str | None = None, *, kind: Kind = INFERENCE_SERVICE
    ) -> None:
        self._with_client(lambda client: client.delete(kind, name, namespace))

    def _with_client(self, work: Callable[[ControlClient], Coroutine[Any, Any, T]]) -> T:
        async def connected() -> T:
            async with ControlClient(self.access, warn=print_warning) as client:
                return await work(client)

        return blocking(connected())


def print_warning(text: str) -> None:
    """What the API warns of goes to standard error."""
    print(f"Warning: {text}", file=sys.stderr)
