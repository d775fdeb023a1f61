"""Storage into pods: sources, credentials, and what cannot be."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kedge.controllers.inferenceservice.errors import BuildError, InvalidStorage, MissingObject
from kedge.controllers.inferenceservice.storage.inject import StorageRequest, add_storage
from kedge.controllers.inferenceservice.storage.sources import Source
from kedge.controllers.inferenceservice.surroundings import Surroundings
from kedge.settings.serving import ServingConfig, StorageInitializer

POD: dict[str, Any] = {"containers": [{"name": "kserve-container", "image": "x"}]}
IN_PLACE = ServingConfig(storage_initializer=StorageInitializer(local_paths="inPlace"))


def injected(
    request: StorageRequest,
    *,
    config: ServingConfig | None = None,
    pod: dict[str, Any] | None = None,
    **around: Any,
) -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(pod or POD)
    add_storage(made, request, Surroundings(**around), config or ServingConfig.default())
    return made


def secret(name: str, annotations: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": annotations or {}}, "stringData": data}


def env_of(pod: dict[str, Any]) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in pod["initContainers"][0]["env"]}


def test_a_folder_in_place() -> None:
    pod = injected(StorageRequest(uri="file:///m/iris/"), config=IN_PLACE)
    assert "initContainers" not in pod
    assert pod["volumes"] == [
        {"name": "kserve-provision-location", "hostPath": {"path": "/m/iris", "type": "Directory"}}
    ]
    assert pod["containers"][0]["volumeMounts"] == [
        {"name": "kserve-provision-location", "mountPath": "/mnt/models", "readOnly": True}
    ]


def test_one_file_in_place() -> None:
    pod = injected(StorageRequest(uri="/m/best.joblib"), config=IN_PLACE)
    assert pod["volumes"][0]["hostPath"] == {"path": "/m/best.joblib", "type": "File"}
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == "/mnt/models/best.joblib"


def test_an_archive_is_unpacked() -> None:
    pod = injected(StorageRequest(uri="/m/iris.tar.gz"), config=IN_PLACE)
    assert pod["initContainers"][0]["args"] == ["/m/iris.tar.gz", "/mnt/models"]


def test_a_transformer_beside_sees_the_model_too() -> None:
    both = {"containers": [{"name": "transformer-container"}, {"name": "kserve-container"}]}
    pod = injected(StorageRequest(uri="pvc://c/a/b"), pod=both)
    mount = {
        "name": "kserve-pvc-source", "mountPath": "/mnt/models", "readOnly": True, "subPath": "a/b",
    }  # fmt: skip
    assert [c["volumeMounts"] for c in pod["containers"]] == [[mount], [mount]]


def test_an_own_init_container_stays_alone() -> None:
    own = {**POD, "initContainers": [{"name": "storage-initializer", "image": "mine"}]}
    assert injected(StorageRequest(uri="s3://b/x"), pod=own) == own


def test_storage_uri_variable_is_rewritten() -> None:
    env = [{"name": "STORAGE_URI", "value": "gs://b/x"}]
    own = {"containers": [{"name": "kserve-container", "env": env}]}
    pod = injected(StorageRequest(uri="gs://b/x"), pod=own)
    assert pod["containers"][0]["env"] == [{"name": "STORAGE_URI", "value": "/mnt/models"}]


def test_s3_settings_from_annotation_secret_and_configuration() -> None:
    account = {"metadata": {"name": "sa"}, "secrets": [{"name": "s3"}]}
    found = secret(
        "s3",
        {"serving.kserve.io/s3-endpoint": "minio:9000", "serving.kserve.io/s3-usehttps": "0"},
        AWS_SECRET_ACCESS_KEY="k", AWS_DEFAULT_REGION="eu",
    )  # fmt: skip
    pod: dict[str, Any] = {**POD, "serviceAccountName": "sa"}
    env = env_of(
        injected(
            StorageRequest(uri="s3://b/x"), pod=pod,
            service_accounts={"sa": account}, secrets={"s3": found},
        )
    )  # fmt: skip
    assert env["AWS_SECRET_ACCESS_KEY"] == {
        "secretKeyRef": {"name": "s3", "key": "AWS_SECRET_ACCESS_KEY"}
    }
    assert env["S3_ENDPOINT"] == "minio:9000"
    assert env["AWS_ENDPOINT_URL"] == "http://minio:9000"
    assert env["S3_USE_HTTPS"] == "0"
    assert env["AWS_DEFAULT_REGION"] == "eu"


@pytest.mark.parametrize(
    ("data", "variable", "volume"),
    [
        ({"gcloud-application-credentials.json": "{}"}, "GOOGLE_APPLICATION_CREDENTIALS",
         "user-gcp-sa"),
        ({"AZURE_STORAGE_ACCESS_KEY": "k"}, "AZURE_STORAGE_ACCESS_KEY", ""),
        ({"AZ_CLIENT_ID": "i", "AZ_CLIENT_SECRET": "s"}, "AZURE_CLIENT_SECRET", ""),
        ({"https-host": "h.com", "headers": "{}"}, "h.com-headers", ""),
        ({"HF_TOKEN": "t"}, "HF_TOKEN", ""),
        ({"MODELSCOPE_API_TOKEN": "t"}, "MODELSCOPE_API_TOKEN", ""),
        ({"HDFS_NAMENODE": "n"}, "HF_HUB_ENABLE_HF_TRANSFER", "hdfs-secrets"),
        ({"unknown": "x"}, "HF_HUB_ENABLE_HF_TRANSFER", ""),
    ],
)  # fmt: skip
def test_secrets_by_their_first_known_key(data: dict[str, str], variable: str, volume: str) -> None:
    account = {"metadata": {"name": "default"}, "secrets": [{"name": "s"}]}
    pod = injected(
        StorageRequest(uri="gs://b/x"),
        service_accounts={"default": account},
        secrets={"s": secret("s", None, **data)},
    )
    assert variable in env_of(pod)
    assert (volume in [v["name"] for v in pod["volumes"]]) is bool(volume)


def test_the_annotation_names_the_only_secret() -> None:
    request = StorageRequest(
        uri="hf://a/b", annotations={"serving.kserve.io/storageSecretName": "mine"}
    )
    pod = injected(request, secrets={"mine": secret("mine", HF_TOKEN="t")})
    assert env_of(pod)["HF_TOKEN"] == {"secretKeyRef": {"name": "mine", "key": "HF_TOKEN"}}


def test_the_storage_spec_makes_the_uri() -> None:
    request = StorageRequest(storage={"path": "x/y", "key": "k", "parameters": {"bucket": "b"}})
    pod = injected(request, secrets={"storage-config": secret("storage-config", k='{"type":"s3"}')})
    assert pod["initContainers"][0]["args"] == ["s3://b/x/y", "/mnt/models"]
    assert env_of(pod)["STORAGE_OVERRIDE_CONFIG"] == '{"bucket":"b"}'
    assert env_of(pod)["STORAGE_CONFIG"] == {"secretKeyRef": {"name": "storage-config", "key": "k"}}


def test_an_overlay_wins_and_keeps_what_to_fetch() -> None:
    container = {
        "metadata": {"name": "ours"},
        "spec": {
            "container": {
                "name": "storage-initializer", "image": "mine", "args": ["--fast"],
                "resources": {"limits": {"memory": "8Gi"}},
            },
            "supportedUriFormats": [{"prefix": "weird://"}, {"regex": "https://(.+)/big/"}],
        },
    }  # fmt: skip
    for uri in ("weird://x", "https://h/big/x"):
        pod = injected(StorageRequest(uri=uri), storage_containers=[container])
        init = pod["initContainers"][0]
        assert init["image"] == "mine"
        assert init["args"] == ["--fast", uri, "/mnt/models"]
        assert init["resources"]["limits"] == {"cpu": "1", "memory": "8Gi"}
    plain = injected(StorageRequest(uri="https://h/small"), storage_containers=[container])
    assert plain["initContainers"][0]["image"] == "kedge/storage-initializer:latest"


def test_several_sources() -> None:
    request = StorageRequest(
        sources=(
            Source("s3://b/a", "/mnt/models/a"),
            Source("s3://b/b", "/mnt/models/b"),
            Source("pvc://c/deep", "/mnt/extra"),
        )
    )
    pod = injected(request)
    assert pod["initContainers"][0]["args"] == [
        "s3://b/a", "/mnt/models/a", "s3://b/b", "/mnt/models/b",
    ]  # fmt: skip
    mounts = {m["mountPath"]: m for m in pod["containers"][0]["volumeMounts"]}
    assert set(mounts) == {"/mnt/models", "/mnt/extra"}
    assert mounts["/mnt/extra"]["subPath"] == "deep"


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (StorageRequest(uri="ftp://x/y"), InvalidStorage, "scheme"),
        (StorageRequest(uri="pvc:///x"), InvalidStorage, "pvc://CLAIM/PATH"),
        (StorageRequest(uri="oci+odd://x"), InvalidStorage, "scheme"),
        (StorageRequest(uri="s3://b/x", storage={"path": "y"}), InvalidStorage, "which kind"),
        (StorageRequest(storage={"path": "y", "key": "k"}), MissingObject, "kubectl create secret"),
        (StorageRequest(storage={"path": "y", "parameters": {"type": "s3"}}), InvalidStorage,
         "no bucket"),
        (StorageRequest(uri="s3://b/x", sources=(Source("s3://b/y"),)), InvalidStorage, "Both"),
        (StorageRequest(uri="s3://b/x", container_name="none"), InvalidStorage, "does not exist"),
        (StorageRequest(sources=(Source("s3://b/x", "/a"), Source("s3://b/y", "/b"))),
         InvalidStorage, "no folder in common"),
        (StorageRequest(sources=(Source("oci+native://a"), Source("oci+native://b"))),
         InvalidStorage, "share mount paths"),
    ],
)  # fmt: skip
def test_what_cannot_be(request_: StorageRequest, error: type[BuildError], words: str) -> None:
    with pytest.raises(error) as raised:
        injected(request_)
    assert words in str(raised.value), str(raised.value)
    assert raised.value.fix


def test_relative_paths_are_refused_in_place() -> None:
    with pytest.raises(InvalidStorage, match="not absolute"):
        injected(StorageRequest(uri="models/iris"), config=IN_PLACE)


def test_a_listed_secret_that_is_not_there() -> None:
    account = {"metadata": {"name": "default"}, "secrets": [{"name": "gone"}]}
    with pytest.raises(MissingObject, match="gone"):
        injected(StorageRequest(uri="s3://b/x"), service_accounts={"default": account})
