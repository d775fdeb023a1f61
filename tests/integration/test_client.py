"""The client against the local Kubernetes API: TLS, token, kubeconfig, every verb."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kedge.admission.review import AdmissionReview
from kedge.api.scheme import CONFIG_MAP, INFERENCE_SERVICE, NAMESPACE
from kedge.client.control import ControlClient
from kedge.client.errors import Unreachable, causes_of
from kedge.client.exporting import exported
from kedge.client.kubeconfig import Access, load
from kedge.cluster.errors import Invalid, NotFound, Unauthorized
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.http import Facade, Listeners
from kedge.cluster.local.kubeconfig import write_kubeconfig
from kedge.cluster.local.store import Store
from kedge.cluster.local.tls import ensure_certificate
from kedge.settings.serving import ServingConfig


@pytest.fixture
async def access(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Access]:
    """An API in this process, reached as a person reaches it: by its kubeconfig."""
    store = Store(tmp_path / "kedge.db")
    config = ServingConfig.default()
    cluster = LocalCluster(store, AdmissionReview(lambda: config, lambda *_: []))
    certificate = ensure_certificate(tmp_path / "tls", hosts=("127.0.0.1",))
    address = f"127.0.0.1:{unused_tcp_port}"
    listeners = Listeners(
        Facade(cluster, token="secret", address=address),
        host="127.0.0.1",
        port=unused_tcp_port,
        certificate=certificate,
        unix_socket=tmp_path / "api.sock",
    )
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig, server=f"https://{address}", token="secret", ca=certificate.ca)
    tasks = [asyncio.ensure_future(part.run()) for part in (cluster, listeners)]
    await listeners.ready.wait()
    yield load([kubeconfig])
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    store.close()


def service(name: str = "iris", **model: Any) -> Any:
    predictor = {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://b/m", **model}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"predictor": predictor},
    }


async def test_objects_come_and_go(access: Access) -> None:
    async with ControlClient(access) as client:
        kind, stored = await client.apply(service())
        assert (kind, stored["metadata"]["generation"]) == (INFERENCE_SERVICE, 1)
        assert stored["spec"] == service()["spec"]  # no defaults are written back
        changed = {"metadata": {"labels": {"team": "a"}}}
        await client.patch(INFERENCE_SERVICE, "iris", changed)
        listed = await client.list(INFERENCE_SERVICE, labels="team=a")
        assert [item["metadata"]["name"] for item in listed.items] == ["iris"]
        assert listed.items[0]["kind"] == "InferenceService"
        table = await client.table(INFERENCE_SERVICE, name="iris")
        assert table["kind"] == "Table"
        assert table["rows"][0]["cells"][0] == "iris"
        await client.delete(INFERENCE_SERVICE, "iris")
        with pytest.raises(NotFound):
            await client.get(INFERENCE_SERVICE, "iris")


async def test_following_sees_every_change(access: Access) -> None:
    async with (
        ControlClient(access) as client,
        aclosing(client.follow(INFERENCE_SERVICE, "iris")) as seen,
    ):
        assert await anext(seen) is None
        await client.apply(service("other"))
        await client.apply(service())
        first = await anext(seen)
        assert first is not None
        assert first["metadata"]["name"] == "iris"
        await client.delete(INFERENCE_SERVICE, "iris")
        assert await anext(seen) is None


async def test_what_admission_says_is_told(access: Access) -> None:
    warned: list[str] = []
    async with ControlClient(access, warn=warned.append) as client:
        await client.apply(service(storageURL="s3://b/m"))
        assert any("storageURL" in text for text in warned)
        bad = service()
        bad["spec"]["predictor"]["minReplicas"] = -1
        with pytest.raises(Invalid, match="minReplicas") as caught:
            await client.apply(bad)
        assert all(field for field, _ in causes_of(caught.value))


async def test_a_dry_run_stores_nothing(access: Access) -> None:
    async with ControlClient(access) as client:
        await client.apply(service(), dry_run=True)
        with pytest.raises(NotFound):
            await client.get(INFERENCE_SERVICE, "iris")


async def test_a_wrong_token_and_a_foreign_certificate(access: Access, tmp_path: Path) -> None:
    async with ControlClient(replace(access, token="wrong")) as client:
        with pytest.raises(Unauthorized, match=r"Fix: .* holds no valid token"):
            await client.list(INFERENCE_SERVICE)
    other = ensure_certificate(tmp_path / "other", hosts=("127.0.0.1",))
    async with ControlClient(replace(access, ca=other.ca.read_bytes())) as client:
        with pytest.raises(Unreachable, match="does not prove to be the server"):
            await client.list(INFERENCE_SERVICE)


async def test_an_export_applies_again(access: Access) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "mine", "namespace": "models"},
        "data": {"a": "b"},
    }
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}}
    async with ControlClient(access) as client:
        for obj in (space, config, service()):
            await client.apply(obj)
        objects = await exported(client, names=[], everywhere=True)
        assert [obj["kind"] for obj in objects] == ["Namespace", "ConfigMap", "InferenceService"]
        await client.delete(CONFIG_MAP, "mine", "models")
        await client.delete(INFERENCE_SERVICE, "iris")
        for obj in objects:
            await client.apply(obj)
        assert (await client.get(CONFIG_MAP, "mine", "models"))["data"] == {"a": "b"}
        assert (await client.get(NAMESPACE, "models"))["kind"] == "Namespace"
