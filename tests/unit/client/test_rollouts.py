"""Promoting, taking back and listing, as patches and rows."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.client.rollouts import NothingToDo, promote_patch, read_revisions, undo_patch
from kedge.lib.errors import KedgeError

ONE, TWO = (f"iris-predictor-{number:05d}" for number in (1, 2))


def service(spec: dict[str, Any], **predictor: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "iris", "namespace": "default"},
        "spec": spec,
        "status": {"components": {"predictor": predictor}},
    }


def test_promoting_removes_the_percentage() -> None:
    spec = {"predictor": {"canaryTrafficPercent": 10}, "transformer": {"canaryTrafficPercent": 0}}
    assert promote_patch(service(spec)) == {
        "spec": {
            "predictor": {"canaryTrafficPercent": None},
            "transformer": {"canaryTrafficPercent": None},
        }
    }
    with pytest.raises(NothingToDo, match="kedge get revisions iris"):
        promote_patch(service({"predictor": {}}))


def variants(*names: str) -> dict[str, Any]:
    model = {"storageUri": "file:///models/x"}
    canary = [
        {"trafficPercent": 10, "predictor": {"name": name, "model": model, "minReplicas": 1}}
        for name in names
    ]
    return service({"predictor": {"minReplicas": 3}, "canary": canary})


def test_promoting_a_variant_makes_it_the_predictor() -> None:
    taken = {"name": "blue", "model": {"storageUri": "file:///models/x"}}
    assert promote_patch(variants("blue")) == {"spec": {"predictor": taken, "canary": None}}
    found = promote_patch(variants("blue", "green"), "blue")
    assert [entry["predictor"]["name"] for entry in found["spec"]["canary"]] == ["green"]
    with pytest.raises(KedgeError, match="--canary: blue, green"):
        promote_patch(variants("blue", "green"))
    with pytest.raises(KedgeError, match="no canary `red`"):
        promote_patch(variants("blue"), "red")


@pytest.mark.parametrize(
    ("why", "predictor", "state", "possible"),
    [
        ("in the middle of a canary", {"canaryTrafficPercent": 10},
         {"latestCreatedRevision": TWO, "latestRolledoutRevision": ONE}, True),
        ("promoted", {},
         {"latestCreatedRevision": TWO, "latestRolledoutRevision": TWO,
          "previousRolledoutRevision": ONE}, True),
        ("the first one", {},
         {"latestCreatedRevision": ONE, "latestRolledoutRevision": ONE}, False),
        ("taken back already", {"canaryTrafficPercent": 0},
         {"latestCreatedRevision": TWO, "latestRolledoutRevision": ONE}, False),
    ],
)  # fmt: skip
def test_going_back(
    why: str, predictor: dict[str, Any], state: dict[str, Any], possible: bool
) -> None:
    found = service({"predictor": predictor}, **state)
    if possible:
        assert undo_patch(found) == {"spec": {"predictor": {"canaryTrafficPercent": 0}}}
    else:
        with pytest.raises(NothingToDo):
            undo_patch(found)


def test_going_back_from_variants_removes_them() -> None:
    assert undo_patch(variants("blue")) == {"spec": {"canary": None}}


def deployment(name: str, replicas: int, ready: int, **annotations: str) -> dict[str, Any]:
    labels = {"component": "predictor", "serving.knative.dev/configuration": "iris-predictor"}
    proven = {"serving.kedge.dev/proven": "true"}
    pins = {"serving.kedge.dev/model-pins": '{"v":{"digest":"sha256:0123456789abcdef"}}'}
    return {
        "metadata": {"name": name, "labels": labels, "annotations": {**proven, **annotations}},
        "spec": {"replicas": replicas, "template": {"metadata": {"annotations": pins}}},
        "status": {"readyReplicas": ready},
    }


def test_revisions() -> None:
    traffic = [
        {"revisionName": TWO, "percent": 10, "latestRevision": True},
        {"revisionName": ONE, "percent": 90, "tag": "prev"},
    ]
    found = read_revisions(
        service(
            {}, traffic=traffic, latestCreatedRevision=TWO, latestReadyRevision=TWO,
            latestRolledoutRevision=ONE,
        ),
        [deployment(ONE, 0, 0), deployment(TWO, 2, 1), {"metadata": {"name": "other"}, "spec": {}}],
    )  # fmt: skip
    assert [(one.name, one.percent, one.tag, one.roles, one.state) for one in found] == [
        (TWO, 10, "", ("newest", "ready"), "ready"),
        (ONE, 90, "prev", ("rolled out",), "at zero"),
    ]
    assert found[0].model == "0123456789ab"
