"""One control plane for the session; `kedge controller` runs against it as a process of its own."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.contract.apiserver import ApiServer
from tests.kubernetes.gateways import grant
from tests.kubernetes.world import HOME, ControllerProcess, World, prepare

from kedge.autoscaler.leader import make_token_secret
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.install.admission import make_admission
from kedge.install.rbac import make_controller_rights
from kedge.settings.installation import CONTROLLER


@pytest.fixture(scope="session")
def assets() -> Path:
    """Kubernetes' own programs."""
    found = os.environ.get("KUBEBUILDER_ASSETS")
    if not found:
        pytest.skip("KUBEBUILDER_ASSETS names no folder with Kubernetes' programs")
    return Path(found)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What judges the whole session comes last."""
    items.sort(key=lambda item: item.path.name.endswith("rights.py"))


@pytest.fixture(scope="session")
def world(assets: Path) -> Iterator[World]:
    """With kube-controller-manager, without a scheduler: pods are there, and run nowhere."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiServer(assets, Path(folder), controllers=True, audit=True) as api,
    ):
        it = World(api, Path(folder))
        prepare(it)
        yield it


@pytest.fixture(scope="session")
def edge(assets: Path) -> Iterator[World]:
    """An API server for the gateway's tests: they kill it, and make all endpoints themselves."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ApiServer(assets, Path(folder), audit=True) as api,
    ):
        it = World(api, Path(folder))
        prepare(it)
        it.apply(make_token_secret(HOME))
        yield it


@pytest.fixture(scope="session")
def edge_account(edge: World) -> Path:
    """The kubeconfig of the account that an installation gives gateways."""
    return grant(edge)


@pytest.fixture
def space(edge: World) -> str:
    """A namespace of the test's own beside the gateway."""
    name = f"test-{secrets.token_hex(4)}"
    edge.api.kubectl("create", "namespace", name)
    return name


@pytest.fixture
def namespace(world: World) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    world.api.kubectl("create", "namespace", name)
    yield name
    world.api.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def account(world: World) -> Path:
    """The kubeconfig of the account that an installation gives the controllers."""
    world.apply(*make_controller_rights(HOME))
    return world.api.kubeconfig_of(CONTROLLER, HOME)


@pytest.fixture(scope="session")
def controller(world: World, account: Path) -> Iterator[ControllerProcess]:
    """One controller for all tests that do not end it, with the shipped rights alone."""
    with world.controller("shared", kubeconfig=account) as process:
        world.apply(make_admission(HOME, url=f"https://127.0.0.1:{process.webhook_port}/validate"))
        yield process


@pytest.fixture
async def cluster(world: World) -> AsyncIterator[KubernetesCluster]:
    """The administrator's view."""
    async with KubernetesCluster.from_kubeconfig(world.api.kubeconfig) as it:
        yield it
