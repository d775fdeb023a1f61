"""A pod's volumes as folders of the host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from kedge.api.scheme import Kind
from kedge.cluster.base import Cluster
from kedge.cluster.local.models import ModelCache
from kedge.cluster.local.node.env import ConfigError
from kedge.cluster.local.node.tokens import Tokens
from kedge.cluster.local.node.volumes import ModelChanged, VolumeError, Volumes


class Data:
    """ConfigMaps by name."""

    def __init__(self, **maps: dict[str, bytes]) -> None:
        self.maps = maps

    async def fetch(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        return self.maps.get(name) if kind == "ConfigMap" else None


def volumes_of(tmp_path: Path, data: Data, *volumes: dict[str, Any]) -> Volumes:
    pod = {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"volumes": list(volumes)}}
    cluster = cast(Cluster, None)  # No volume here asks the API for anything else.
    return Volumes(
        pod,
        tmp_path / "pod",
        tmp_path / "claims",
        cluster,
        data.fetch,
        {},
        ModelCache(tmp_path / "models"),
    )


def mounts_of(volumes: Volumes, *mounts: dict[str, Any]) -> list[dict[str, Any]]:
    return volumes.mounts({"name": "c", "volumeMounts": list(mounts)}, {"POD": "p"})


async def test_a_config_map_follows_its_object(tmp_path: Path) -> None:
    data = Data(cm={"a": b"1", "b": b"2"})
    volumes = volumes_of(tmp_path, data, {"name": "v", "configMap": {"name": "cm"}})
    await volumes.prepare()
    folder = tmp_path / "pod" / "volumes" / "v"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "1", "b": "2"}
    data.maps["cm"] = {"a": b"3"}
    assert volumes.refreshable
    await volumes.prepare()
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "3"}


async def test_mounts_are_in_the_order_of_their_depth(tmp_path: Path) -> None:
    volumes = volumes_of(tmp_path, Data(), {"name": "v", "emptyDir": {}})
    await volumes.prepare()
    mounts = mounts_of(
        volumes,
        {"name": "v", "mountPath": "/a/b/c", "subPathExpr": "of-$(POD)"},
        {"name": "v", "mountPath": "/a/", "readOnly": True},
    )
    folder = tmp_path / "pod" / "volumes" / "v"
    assert mounts == [
        {"target": "/a", "source": str(folder), "readonly": True},
        {"target": "/a/b/c", "source": str(folder / "of-p"), "readonly": False},
    ]
    assert (folder / "of-p").is_dir()


async def test_a_memory_volume_is_the_shims_to_mount(tmp_path: Path) -> None:
    source = {"medium": "Memory", "sizeLimit": "1Mi"}
    volumes = volumes_of(tmp_path, Data(), {"name": "v", "emptyDir": source})
    await volumes.prepare()
    path = str(tmp_path / "pod" / "volumes" / "v")
    assert volumes.memory_volumes() == [{"path": path, "size": 1 << 20}]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"configMap": {"name": "none"}}, "configmap 'none' not found"),
        ({"configMap": {"name": "cm", "items": [{"key": "x", "path": "x"}]}}, "no key 'x'"),
        ({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../x"}]}}, "leads out"),
        ({"hostPath": {"path": "/no/such/folder"}}, "does not exist"),
        ({"hostPath": {"path": "/dev/null", "type": "Directory"}}, "is not a folder"),
        ({"nfs": {"server": "x", "path": "/"}}, r"\(nfs\) is not one that this node can give"),
    ],
)
async def test_what_cannot_be_had_is_named(
    tmp_path: Path, source: dict[str, Any], words: str
) -> None:
    volumes = volumes_of(tmp_path, Data(cm={"a": b"1"}), {"name": "v", **source})
    with pytest.raises(VolumeError, match=f"volume 'v'.*{words}"):
        await volumes.prepare()


@pytest.mark.parametrize("sub", ["../x", "/etc", "a/../../b"])
async def test_a_sub_path_stays_inside(tmp_path: Path, sub: str) -> None:
    volumes = volumes_of(tmp_path, Data(), {"name": "v", "emptyDir": {}})
    await volumes.prepare()
    with pytest.raises(ConfigError, match="leads out"):
        mounts_of(volumes, {"name": "v", "mountPath": "/a", "subPath": sub})


def pinned(tmp_path: Path, digest: str, *, copy_limit: int = 1 << 20) -> Volumes:
    """A pod whose model folder is pinned."""
    annotations = {"serving.kedge.dev/model-pins": json.dumps({"model": {"digest": digest}})}
    labels = {"serving.kserve.io/inferenceservice": "iris"}
    source = {"name": "model", "hostPath": {"path": str(tmp_path / "iris"), "type": "Directory"}}
    return Volumes(
        {
            "metadata": {"name": "p", "annotations": annotations, "labels": labels},
            "spec": {"volumes": [source]},
        },
        tmp_path / "pod",
        tmp_path / "claims",
        cast(Cluster, None),
        Data().fetch,
        {},
        ModelCache(tmp_path / "models", copy_limit=copy_limit),
    )


async def test_a_pinned_volume_shows_the_bytes_of_its_revision(tmp_path: Path) -> None:
    model = tmp_path / "iris" / "model.joblib"
    model.parent.mkdir()
    model.write_bytes(b"one")
    digest = ModelCache(tmp_path / "models").pin(model.parent)
    model.write_bytes(b"two")
    for _ in range(2):
        volumes = pinned(tmp_path, digest)
        await volumes.prepare()
        (mount,) = mounts_of(volumes, {"name": "model", "mountPath": "/mnt/models"})
        assert mount["readonly"]
        assert (Path(mount["source"]) / "model.joblib").read_bytes() == b"one"
        model.unlink(missing_ok=True)


async def test_other_bytes_than_those_of_the_revision_do_not_start(tmp_path: Path) -> None:
    model = tmp_path / "iris" / "model.joblib"
    model.parent.mkdir()
    model.write_bytes(b"one")
    digest = ModelCache(tmp_path / "models", copy_limit=1).pin(model.parent)
    volumes = pinned(tmp_path, digest, copy_limit=1)
    await volumes.prepare()
    (mount,) = mounts_of(volumes, {"name": "model", "mountPath": "/mnt/models"})
    assert mount["source"] == str(model.parent)

    model.write_bytes(b"two")
    with pytest.raises(ModelChanged) as caught:
        await pinned(tmp_path, digest, copy_limit=1).prepare()
    there = ModelCache(tmp_path / "models").digest(model.parent)
    assert digest in str(caught.value)
    assert there in str(caught.value)
    assert "kedge rollout restart iris" in str(caught.value)
    assert caught.value.reason == "ModelChanged"

    model.unlink()
    model.parent.rmdir()
    with pytest.raises(VolumeError, match="cannot be read"):
        await pinned(tmp_path, digest, copy_limit=1).prepare()


class Claims:
    """An API that knows one claim and, where it is bound, its volume."""

    def __init__(self, spec: dict[str, Any], volume: dict[str, Any] | None = None) -> None:
        self.objects = {"PersistentVolumeClaim": {"metadata": {"name": "data"}, "spec": spec}}
        if volume is not None:
            self.objects["PersistentVolume"] = {"metadata": {"name": "pv"}, "spec": volume}

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Any:
        return self.objects[kind.kind]


def bound_volumes(tmp_path: Path, api: Claims) -> Volumes:
    """On a Kubernetes cluster a claim is the volume that it is bound to."""
    claim = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    pod = {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"volumes": [claim]}}
    return Volumes(
        pod, tmp_path / "pod", None, cast(Cluster, api), Data().fetch, {}, ModelCache(tmp_path)
    )


@pytest.mark.parametrize("kind", ["hostPath", "local"])
async def test_a_bound_claim_is_the_folder_of_its_volume(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    volumes = bound_volumes(tmp_path, Claims({"volumeName": "pv"}, {kind: {"path": str(folder)}}))
    await volumes.prepare()
    (mount,) = mounts_of(volumes, {"name": "v", "mountPath": "/mnt/models"})
    assert mount["source"].rstrip("/") == str(folder)


@pytest.mark.parametrize(
    ("api", "why"),
    [
        (Claims({}), "bound to no volume"),
        (Claims({"volumeName": "pv"}, {"nfs": {"server": "s", "path": "/"}}), "hostPath or local"),
        (Claims({"volumeName": "pv"}, {"local": {"path": "/not/there"}}), "does not exist"),
    ],
)
async def test_a_claim_without_a_folder_here_is_told(tmp_path: Path, api: Claims, why: str) -> None:
    with pytest.raises(VolumeError, match=why):
        await bound_volumes(tmp_path, api).prepare()


async def test_a_projected_token_is_a_file(tmp_path: Path) -> None:
    async def request(account: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"token": f"{namespace}/{account}", "expirationTimestamp": "2126-01-01T00:00:00Z"}

    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    projected = {"name": "v", "projected": {"sources": sources}}
    pod = {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {"volumes": [projected], "serviceAccountName": "runner"},
    }
    volumes = Volumes(
        pod, tmp_path / "pod", None, cast(Cluster, None), Data(ca={"ca.crt": b"CA"}).fetch, {},
        ModelCache(tmp_path), Tokens(request),
    )  # fmt: skip
    await volumes.prepare()
    folder = tmp_path / "pod" / "volumes" / "v"
    assert (folder / "token").read_text() == "ns/runner"
    assert (folder / "ca.crt").read_text() == "CA"
