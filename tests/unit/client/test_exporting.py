"""What people applied, without what the API added."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.client.exporting import is_applied, local_uris, stripped


def obj(kind: str, name: str, **metadata: Any) -> Any:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **metadata}}


def test_what_the_api_added_is_left_out() -> None:
    stored = {
        **obj(
            "InferenceService", "iris", namespace="default", uid="u", resourceVersion="3",
            generation=2, creationTimestamp="t", managedFields=[{}], finalizers=["f"],
            labels={"a": "b"},
            annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        ),
        "spec": {"predictor": {}},
        "status": {"url": "x"},
    }  # fmt: skip
    assert stripped(stored) == {
        **obj("InferenceService", "iris", namespace="default", labels={"a": "b"}),
        "spec": {"predictor": {}},
    }
    stored["metadata"]["annotations"]["mine"] = "kept"
    assert stripped(stored)["metadata"]["annotations"] == {"mine": "kept"}


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (obj("InferenceService", "iris", namespace="default"), True),
        (obj("ClusterServingRuntime", "k", managedFields=[{"manager": "kedge"}]), False),
        (obj("ClusterServingRuntime", "mine", managedFields=[{"manager": "kubectl"}]), True),
        (obj("ConfigMap", "c", namespace="kedge"), False),
        (obj("ConfigMap", "c", namespace="default", ownerReferences=[{}]), False),
        (obj("Namespace", "kube-system"), False),
        (obj("Namespace", "models"), True),
        (obj("ServiceAccount", "default", namespace="default"), False),
    ],
)
def test_only_what_people_made_is_exported(one: Any, wanted: bool) -> None:
    assert is_applied(one) is wanted


def test_models_on_this_disk_are_named() -> None:
    def service(uri: str) -> Any:
        model = {"model": {"storageUri": uri}}
        return {**obj("InferenceService", uri), "spec": {"predictor": model}}

    found = list(local_uris([service("file:///a"), service("s3://b"), service("/c")]))
    assert found == [("file:///a", "file:///a"), ("/c", "/c")]
