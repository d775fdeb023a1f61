"""KServe's own samples, applied to a real API server: their children are those of the goldens.

The goldens are what `render` gives for the same files (`tests/golden`). No kubelet runs here: pods
become ready by the word of a stand-in.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.golden import test_golden_samples as samples
from tests.kubernetes.differences import difference
from tests.kubernetes.standins import all_goes_well, eventually
from tests.kubernetes.world import World

from kedge.api import legacy
from kedge.api.scheme import INFERENCE_SERVICE, kind_of
from kedge.cluster.base import Object
from kedge.cluster.kubernetes import KubernetesCluster
from kedge.install.manifests import shipped
from kedge.modes.render import render

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.usefixtures("controller", "runtimes"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def runtimes(world: World) -> Iterator[None]:
    """KServe's runtimes for the formats that Kedge does not serve itself, as for the goldens."""
    own = {one["metadata"]["name"] for one in shipped("runtimes")}
    theirs = [one for one in samples._runtimes() if one["metadata"]["name"] not in own]
    world.apply(*theirs)
    yield
    for one in theirs:
        _delete(world, one)


def _delete(world: World, obj: Object) -> None:
    world.api.kubectl("delete", obj["kind"], obj["metadata"]["name"], "--ignore-not-found")


@pytest.mark.parametrize("path", samples._paths(), ids=str)
async def test_children_of_a_sample(
    world: World, cluster: KubernetesCluster, namespace: str, path: Path
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
    known = [one for one in samples._runtimes() if not own & samples._formats(one)]
    wanted = render(given, namespace=namespace, runtimes=known).objects
    # KEDA is not there; a service says so (test_faults).
    wanted = [one for one in wanted if one["kind"] != "ScaledObject"]
    given.sort(key=lambda one: kind_of(one) == INFERENCE_SERVICE)
    world.apply(*given)

    async def differences() -> list[str]:
        return [text for one in wanted if (text := await difference(cluster, one))]

    async def same() -> bool:
        return not await differences()

    try:
        async with all_goes_well(cluster, namespace):
            await eventually(same, str(path), 40)
    except AssertionError:
        raise AssertionError("\n".join(await differences())) from None
    finally:
        for one in everywhere:
            _delete(world, one)
