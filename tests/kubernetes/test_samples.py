"""KServe's own samples, applied to a real API server: their children are those of the goldens.

The goldens are what `render` gives for the same files (`tests/golden`). It is done twice: on an API
server alone, and on the cluster that `KEDGE_TEST_CLUSTER` names, with Kedge installed in it. Most
of the samples' images and models are out of reach, so pods become ready by the word of a stand-in;
in the cluster they are kept from its nodes.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from tests.golden import test_golden_samples as samples
from tests.kubernetes.differences import difference
from tests.kubernetes.real import RealCluster, kubelets
from tests.kubernetes.standins import all_goes_well, eventually
from tests.kubernetes.world import HOME, World

from kedge.api import legacy
from kedge.api.scheme import INFERENCE_SERVICE, kind_of
from kedge.cluster.base import Object
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.install.manifests import shipped
from kedge.modes.render import render
from kedge.settings.serving import CONFIG_MAP_NAME

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Place:
    """Where the samples are applied.

    Attributes:
        kubectl: runs it as an administrator; must succeed.
        kubeconfig: of that administrator.
        gateway: a gateway of Kedge's tells of the routes.
        runtimes: what services may choose from.
        around: what else they are built with: settings, storage containers.
        keda: KEDA's kinds are there.
    """

    kubectl: Callable[..., str]
    kubeconfig: Path
    gateway: bool
    keda: bool = False
    runtimes: list[Object] = field(default_factory=list)
    around: list[Object] = field(default_factory=list)

    def apply(self, *objects: Object) -> None:
        """Client-side apply."""
        given = yaml.safe_dump_all(objects)
        self.kubectl("apply", "--validate=false", "-f", "-", given=given)

    def delete(self, obj: Object) -> None:
        self.kubectl("delete", obj["kind"], obj["metadata"]["name"], "--ignore-not-found")

    def read(self, resource: str, *options: str) -> list[Object]:
        found = self.kubectl("get", resource, "-o=json", *options)
        items: list[Object] = json.loads(found)["items"]
        return items

    def look(self) -> None:
        """Take in what services are built with here."""
        self.runtimes.extend(self.read("clusterservingruntimes"))
        self.around.extend(self.read("clusterstoragecontainers"))
        named = f"--field-selector=metadata.name={CONFIG_MAP_NAME}"
        self.around.extend(self.read("configmaps", "-n", HOME, named))


@pytest.fixture(scope="module", params=["api-server", "kubelet"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """With Kedge in it, and KServe's runtimes for the formats that Kedge does not serve itself."""
    if request.param == "kubelet":
        with kubelets() as real:
            yield from _installed(real)
        return
    world: World = request.getfixturevalue("world")
    request.getfixturevalue("controller")
    it = Place(world.api.kubectl, world.api.kubeconfig, gateway=False)
    yield from _with_runtimes(it)


def _installed(real: RealCluster) -> Iterator[Place]:
    done = real.kedge("install", "--timeout=240")
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = [one["metadata"]["name"] for one in real.find_all("nodes")]
    try:
        real.kubectl("cordon", *nodes)
        keda = not real.try_kubectl("get", "crd", "scaledobjects.keda.sh").returncode
        it = Place(real.kubectl, real.kubeconfig, gateway=True, keda=keda)
        yield from _with_runtimes(it)
    finally:
        real.kubectl("uncordon", *nodes)
        real.kedge("uninstall", "--yes")


def _with_runtimes(place: Place) -> Iterator[Place]:
    own = {one["metadata"]["name"] for one in shipped("runtimes")}
    theirs = [one for one in samples._runtimes() if one["metadata"]["name"] not in own]
    place.apply(*theirs)
    place.look()
    yield place
    for one in theirs:
        place.delete(one)


@pytest.fixture
async def cluster(place: Place) -> AsyncIterator[KubernetesCluster]:
    """The administrator's view."""
    async with KubernetesCluster.from_kubeconfig(place.kubeconfig) as it:
        yield it


@pytest.fixture
def namespace(place: Place) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    place.kubectl("create", "namespace", name)
    yield name
    place.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("path", samples._paths(), ids=str)
async def test_children_of_a_sample(
    place: Place, cluster: KubernetesCluster, namespace: str, path: Path
) -> None:
    rendered = samples._rendered(path)
    if isinstance(rendered, str) or not rendered.objects or str(path) in samples._outcomes()[1]:
        pytest.skip("something of it is refused, see tests/golden/samples/REFUSED.yaml")
    given = [
        copy.deepcopy(one) for one in samples._beside(path) + samples._read(samples.SAMPLES / path)
    ]
    given = [one for one in map(legacy.convert, given) if kind_of(one) is not None]
    everywhere = [one for one in given if one["kind"].startswith("Cluster")]
    for one in given:
        if one not in everywhere:
            one["metadata"]["namespace"] = namespace
    own = {name for one in given for name in samples._formats(one)}
    known = [one for one in place.runtimes if not own & samples._formats(one)]
    wanted = render([*place.around, *given], namespace=namespace, runtimes=known).objects
    # Where KEDA is not there, a service says so (test_faults).
    wanted = [one for one in wanted if place.keda or one["kind"] != "ScaledObject"]
    given.sort(key=lambda one: kind_of(one) == INFERENCE_SERVICE)
    place.apply(*given)

    async def differences() -> list[str]:
        return [text for one in wanted if (text := await difference(cluster, one))]

    async def same() -> bool:
        return not await differences()

    try:
        async with all_goes_well(cluster, namespace, gateway=place.gateway):
            await eventually(same, str(path), 40)
    except AssertionError:
        raise AssertionError("\n".join(await differences())) from None
    finally:
        for one in everywhere:
            place.delete(one)
