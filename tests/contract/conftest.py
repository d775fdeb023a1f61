"""Every backend that must keep the contract of `kedge.cluster.base`, one after the other.

A real Kubernetes API server takes part where `KEDGE_TEST_KUBECONFIG` names a kubeconfig of a whole
cluster, or `KUBEBUILDER_ASSETS` a folder with `etcd`, `kube-apiserver` and, for what collects
garbage, `kube-controller-manager`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from tests.contract.apiserver import ApiServer

from kedge.api.scheme import NAMESPACE
from kedge.cluster.base import Cluster
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.http import Facade, Listeners
from kedge.cluster.local.kubeconfig import write_kubeconfig
from kedge.cluster.local.store import Store
from kedge.cluster.local.store.history import History
from kedge.cluster.local.tls import Certificate, ensure_certificate

LOCAL = ("memory", "disk")
FACADE = ("socket", "tls")
HISTORY = 100
"""Changes that the local store remembers of each kind in these tests."""


@dataclass
class Backend:
    """One cluster under test.

    Attributes:
        has_controllers: it collects garbage and ends namespaces; an API server alone does not.
        is_local: its history is `HISTORY` changes long.
    """

    name: str
    cluster: Cluster
    has_controllers: bool = True
    is_local: bool = True


@pytest.fixture(scope="session")
def certificate() -> Iterator[Certificate]:
    with tempfile.TemporaryDirectory() as folder:
        yield ensure_certificate(Path(folder))


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[Path]:
    """The kubeconfig of a real API server."""
    given = os.environ.get("KEDGE_TEST_KUBECONFIG")
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if given:
        yield Path(given)
    elif assets:
        with (
            tempfile.TemporaryDirectory() as folder,
            ApiServer(Path(assets), Path(folder), controllers=_has_controllers()) as it,
        ):
            yield it.kubeconfig
    else:
        pytest.skip("neither KEDGE_TEST_KUBECONFIG nor KUBEBUILDER_ASSETS names an API server")


@pytest_asyncio.fixture(
    scope="session",
    loop_scope="session",
    params=[*LOCAL, *FACADE, pytest.param("kubernetes", marks=pytest.mark.kubernetes)],
)
async def backend(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    certificate: Certificate,
) -> AsyncIterator[Backend]:
    if request.param == "kubernetes":
        path = request.getfixturevalue("kubeconfig")
        async with KubernetesCluster.from_kubeconfig(path) as real:
            yield Backend("kubernetes", real, has_controllers=_has_controllers(), is_local=False)
        return
    folder = tmp_path_factory.mktemp("backend")
    async with AsyncExitStack() as stack:
        store = Store(
            ":memory:" if request.param == "memory" else folder / "store.db",
            history=History(0, count=HISTORY),
        )
        stack.callback(store.close)
        local = LocalCluster(store, AdmitAll())
        await stack.enter_async_context(_running(local))
        cluster: Cluster = local
        if request.param in FACADE:
            cluster = await stack.enter_async_context(
                _reached(local, folder, certificate, request.param)
            )
        yield Backend(request.param, cluster)


def _has_controllers() -> bool:
    """Whether the real API server comes with Kubernetes' own controllers."""
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS", ""))
    return "KEDGE_TEST_KUBECONFIG" in os.environ or (assets / "kube-controller-manager").exists()


@asynccontextmanager
async def _running(part: LocalCluster | Listeners) -> AsyncIterator[None]:
    task = asyncio.create_task(part.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _reached(
    local: LocalCluster, folder: Path, certificate: Certificate, way: str
) -> AsyncIterator[KubernetesCluster]:
    """The local cluster through its façade."""
    with tempfile.TemporaryDirectory() as short:
        socket = Path(short) / "api.sock"
        listeners = Listeners(
            Facade(local, token="secret"),
            host="127.0.0.1",
            port=0,
            certificate=certificate,
            unix_socket=socket,
        )
        async with _running(listeners):
            await listeners.ready.wait()
            if way == "socket":
                connection = KubernetesCluster.from_unix_socket(socket)
            else:
                kubeconfig = folder / "kubeconfig"
                server = f"https://127.0.0.1:{listeners.port}"
                write_kubeconfig(kubeconfig, server=server, ca=certificate.ca, token="secret")
                connection = KubernetesCluster.from_kubeconfig(kubeconfig)
            async with connection:
                yield connection


@pytest.fixture
def cluster(backend: Backend) -> Cluster:
    return backend.cluster


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"contract-{secrets.token_hex(4)}"
    await cluster.create(
        NAMESPACE,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
    )
    yield name
    await cluster.delete(NAMESPACE, name)


@pytest.fixture
def garbage_collected(backend: Backend) -> None:
    if not backend.has_controllers:
        pytest.skip("an API server without kube-controller-manager collects no garbage")
