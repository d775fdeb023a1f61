"""Whether a pod fits a node, and the words when it does not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.scheduler.affinity import is_attracted, is_repelled
from kedge.cluster.local.workloads.scheduler.fit import could_fit, misfits_of
from kedge.cluster.local.workloads.scheduler.resources import Usage, requests_of
from kedge.cluster.local.workloads.scheduler.scheduler import explain


def node(**spec: Any) -> Object:
    return {
        "metadata": {"name": "n", "labels": {"disk": "ssd", "zone": "a"}},
        "spec": spec,
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}},
    }


def pod(
    name: str = "p", *, on: str = "", labels: dict[str, str] | None = None, **spec: Any
) -> Object:
    if on:
        spec["nodeName"] = on
    return {"metadata": {"name": name, "namespace": "ns", "labels": labels or {}}, "spec": spec}


def asking(name: str = "p", on: str = "", **requests: str) -> Object:
    resources = {
        "requests": {key.replace("gpu", "nvidia.com/gpu"): v for key, v in requests.items()}
    }
    return pod(name, on=on, containers=[{"resources": resources}])


def reasons(wanted: Object, where: Object, *running: Object) -> list[str]:
    usage = Usage()
    for one in running:
        usage.put(one)
    return [misfit.reason for misfit in misfits_of(wanted, where, usage)]


def test_requests_are_the_sum_or_the_largest_start() -> None:
    def container(cpu: str, **more: str) -> Object:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    asked = requests_of(
        pod(
            initContainers=[container("1", restartPolicy="Always"), container("3")],
            containers=[
                container("500m"),
                {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
            ],
            overhead={"cpu": "100m"},
        )
    )
    assert asked == {"cpu": Decimal("4.1"), "memory": Decimal(2**30), "pods": Decimal(1)}


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ({"cpu": "4"}, []),
        ({"cpu": "4001m"}, ["Insufficient cpu"]),
        ({"memory": "8Gi", "cpu": "5"}, ["Insufficient cpu"]),
        ({"gpu": "2"}, ["Insufficient nvidia.com/gpu"]),
        ({"example.com/fpga": "1"}, ["Insufficient example.com/fpga"]),
    ],
)
def test_amounts(requests: dict[str, str], expected: list[str]) -> None:
    assert reasons(asking(**requests), node()) == expected


def test_what_others_hold_counts_until_they_end() -> None:
    other = asking("other", on="n", gpu="1")
    assert reasons(asking(gpu="1"), node(), other) == ["Insufficient nvidia.com/gpu"]
    assert reasons(asking(gpu="1"), node(), {**other, "status": {"phase": "Failed"}}) == []
    usage = Usage()
    usage.put(other)
    assert usage.remove(other)
    assert not usage.remove(other)
    assert misfits_of(asking(gpu="1"), node(), usage) == []


def test_the_message_names_amounts_holders_and_a_fix() -> None:
    usage = Usage()
    for name, memory in (("big", "5Gi"), ("small", "1Gi")):
        usage.put(asking(name, on="n", memory=memory))
    message = explain({"n": misfits_of(asking(memory="4Gi"), node(), usage)})
    assert message == (
        "0/1 nodes are available: 1 Insufficient memory. memory: wants 4Gi, node n has 2Gi of 8Gi"
        " free, used by ns/big 5Gi, ns/small 1Gi."
        " Fix: Delete or scale down one of these, or ask for less."
    )
    message = explain({"n": misfits_of(asking(memory="40Gi"), node(), usage)})
    assert message.endswith("Fix: Ask for at most 8Gi of memory.")
    assert explain({}) == "no nodes available to schedule pods"


def test_at_most_so_many_pods() -> None:
    full = node()
    full["status"]["allocatable"]["pods"] = "1"
    assert reasons(asking(), full, asking("other", on="n")) == ["Too many pods"]


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, True),
        ({"nodeSelector": {"disk": "hdd"}}, False),
        ({"affinity": {"nodeAffinity": {}}}, True),
    ],
)
def test_node_selectors(spec: dict[str, Any], fits: bool) -> None:
    found = reasons(pod(**spec), node())
    assert found == ([] if fits else ["node(s) didn't match Pod's node affinity/selector"])


@pytest.mark.parametrize(
    ("terms", "fits"),
    [
        ([{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}], True),
        ([{"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}], False),
        ([{}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}], True),
        ([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}], True),
        ([{}], False),
    ],
)
def test_node_affinity(terms: list[Any], fits: bool) -> None:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    assert (reasons(pod(affinity={"nodeAffinity": required}), node()) == []) == fits


@pytest.mark.parametrize(
    ("tolerations", "fits"),
    [
        ([], False),
        ([{"key": "gpu", "operator": "Exists"}], True),
        ([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}], True),
        ([{"key": "gpu", "value": "no"}], False),
        ([{"key": "gpu", "value": "yes", "effect": "NoExecute"}], False),
        ([{"operator": "Exists"}], True),
    ],
)
def test_taints(tolerations: list[Any], fits: bool) -> None:
    tainted = node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    assert (reasons(pod(tolerations=tolerations), tainted) == []) == fits


def test_a_cordoned_node_takes_nothing() -> None:
    assert reasons(pod(), node(unschedulable=True)) == ["node(s) were unschedulable"]


def near(which: str, app: str) -> dict[str, Any]:
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": app}}}
    return {"affinity": {which: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def test_pods_may_avoid_each_other() -> None:
    shy = pod(labels={"app": "x"}, **near("podAntiAffinity", "x"))
    located = [(pod("other", labels={"app": "x"}), node())]
    assert is_repelled(shy, node(), located)
    assert not is_repelled(shy, node(), [])
    assert is_repelled(pod(labels={"app": "x"}), node(), [(shy, node())])


def test_pods_may_seek_each_other() -> None:
    social = pod(**near("podAffinity", "x"))
    assert not is_attracted(social, node(), [])
    assert is_attracted(social, node(), [(pod("other", labels={"app": "x"}), node())])
    first = pod(labels={"app": "x"}, **near("podAffinity", "x"))
    assert is_attracted(first, node(), [])


def test_what_an_empty_node_could_hold() -> None:
    assert could_fit(asking(cpu="4", gpu="1"), node())
    assert not could_fit(asking(gpu="2"), node())
