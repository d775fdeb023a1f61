"""Whatever a client sends, the answer is an object or a refusal, never an accident."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.cluster_local.local_objects import (
    make_config_map,
    make_deployment,
    make_isvc,
    make_pod,
)

from kedge.api.scheme import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    NAMESPACE,
    NODE,
    POD,
    SECRET,
    SERVICE,
    Kind,
)
from kedge.cluster.base import Object, PatchType
from kedge.cluster.errors import ApiError
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.registry import Registry
from kedge.cluster.local.requests import WriteOptions
from kedge.cluster.local.store import Store
from kedge.cluster.local.tables import printer_of
from kedge.lib.clock import SYSTEM_CLOCK

SEEDS: tuple[tuple[Kind, Object], ...] = (
    (CONFIG_MAP, make_config_map(a="b")),
    (DEPLOYMENT, make_deployment(strategy={"type": "RollingUpdate"})),
    (INFERENCE_SERVICE, make_isvc()),
    (
        POD,
        make_pod(
            volumes=[{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}],
            initContainers=[{"name": "i", "image": "x", "env": [{"name": "A", "value": "1"}]}],
        ),
    ),
    (
        SERVICE,
        {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}},
    ),
    (SECRET, {"metadata": {"name": "s"}, "stringData": {"a": "b"}}),
    (NAMESPACE, {"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {}}),
    (NODE, {"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready"}]}}),
    (
        EVENT,
        {"metadata": {"name": "e"}, "involvedObject": {}, "source": {"component": "x"}},
    ),
    (
        HORIZONTAL_POD_AUTOSCALER,
        {"metadata": {"name": "h"}, "spec": {"maxReplicas": 1, "scaleTargetRef": {"kind": "D"}}},
    ),
    (
        HTTP_ROUTE,
        {
            "metadata": {"name": "r"},
            "spec": {"rules": [{"backendRefs": [{"name": "s"}], "matches": [{"path": {}}]}]},
        },
    ),
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "x/y", "$patch"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "a", "f:a", ".", "$patch"]), inner, max_size=2)
    ),
    max_leaves=4,
)
metadata_fields = st.sampled_from([
    "finalizers", "labels", "annotations", "ownerReferences", "managedFields", "generateName",
    "name", "namespace", "resourceVersion", "uid", "deletionTimestamp",
])  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> tuple[Kind, Object, Object]:
    """A kind, a good object of it, and one with something wrong somewhere inside."""
    kind, seed = draw(st.sampled_from(SEEDS))
    broken = copy.deepcopy(seed)
    if draw(st.booleans()):
        broken["metadata"][draw(metadata_fields)] = draw(json_values)
        return kind, copy.deepcopy(seed), broken
    place: Any = broken
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        inner = place[key]
        if not isinstance(inner, dict | list) or draw(st.booleans()):
            place[key] = draw(json_values)
            break
        place = inner
    return kind, copy.deepcopy(seed), broken


def namespace_of(kind: Kind) -> str:
    return "default" if kind.namespaced else ""


@pytest.fixture(scope="module")
def shared() -> Registry:
    return LocalCluster(Store(":memory:"), AdmitAll()).registry


def attempt(registry: Registry, kind: Kind, seed: Object, broken: Object, how: str) -> None:
    namespace, name = namespace_of(kind), seed["metadata"]["name"]
    options = WriteOptions(field_validation="Warn")
    if how == "create":
        made = registry.create(kind, namespace, broken, WriteOptions(dry_run=True)).object
        printer_of(kind).cells(made, SYSTEM_CLOCK.now())
        return
    registry.create(kind, namespace, seed)
    match how:
        case "replace":
            registry.replace(kind, namespace, name, broken, options)
        case "status":
            registry.replace(kind, namespace, name, broken, options, subresource="status")
        case "merge":
            registry.patch(kind, namespace, name, broken, PatchType.MERGE, options)
        case "strategic":
            registry.patch(kind, namespace, name, broken, PatchType.STRATEGIC, options)
        case "apply":
            registry.patch(kind, namespace, name, broken, PatchType.APPLY, options, force=True)
        case "scale":
            scale = {"spec": broken.get("spec"), "metadata": broken.get("metadata")}
            registry.scale(kind, namespace, name, scale, options)
    stored = registry.read(kind, namespace, name).object
    printer_of(kind).cells(stored, SYSTEM_CLOCK.now())


def clean(registry: Registry) -> None:
    for kind, seed in SEEDS:
        name = seed["metadata"]["name"]
        record = registry.store.get(kind, namespace_of(kind), name)
        if record is not None:
            registry.store.remove(kind, record)


@pytest.mark.parametrize(
    "how", ["create", "replace", "status", "merge", "strategic", "apply", "scale"]
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(case=damaged())
def test_every_damaged_object_is_stored_or_refused(
    shared: Registry, how: str, case: tuple[Kind, Object, Object]
) -> None:
    try:
        attempt(shared, *case, how)
    except ApiError:
        pass
    finally:
        clean(shared)
