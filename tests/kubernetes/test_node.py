"""`kedge node`: pods of a real control plane as processes of this machine, found and asked."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.apiserver import ApiServer
from tests.integration.trained import ROWS, sklearn_classifier
from tests.kubernetes.nodes import NAME, Node, ask, node_of, ready_endpoints
from tests.kubernetes.world import World, prepare, until

from kedge.cluster.local.node.registration import PROCESSES_LABEL
from kedge.install.values import Values

pytestmark = pytest.mark.kubernetes

Object = dict[str, Any]
_SERVER = (
    "import http.server, os, pathlib, sys\n"
    "print('serving', flush=True)\n"
    "class Answer(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200)\n"
    "        self.end_headers()\n"
    "        place = pathlib.Path(self.path)\n"
    "        self.wfile.write(place.read_bytes() if place.is_file() else b'well')\n"
    "http.server.HTTPServer(('', 8080), Answer).serve_forever()\n"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def whole(assets: Path, folder: Path) -> Iterator[World]:
    """A control plane that watches its nodes, with a scheduler."""
    if os.geteuid() != 0:
        pytest.skip("the pods' network is put on lo, which is root's right")
    with ApiServer(assets, folder, controllers=True, scheduler=True, nodes=True) as api:
        world = World(api, folder)
        prepare(world)
        yield world


@pytest.fixture(scope="module")
def node(whole: World, folder: Path) -> Iterator[Node]:
    """With the rights alone that are told to be needed."""
    with node_of(whole, folder) as it:
        yield it


@pytest.fixture
def space(whole: World, node: Node) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    whole.api.kubectl("create", "namespace", name)
    whole.api.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name)
    yield name
    whole.api.kubectl("delete", "namespace", name, "--timeout=50s")


def server(**more: Any) -> Object:
    return {
        "name": "main", "image": Values().image("python"), "command": ["python", "-c", _SERVER],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}, **more,
    }  # fmt: skip


def deployment(name: str, replicas: int = 1, **pod: Any) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 3, "containers": [server()], **pod},
            },
        },
    }  # fmt: skip


def service(name: str) -> Object:
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports},
    }  # fmt: skip


def test_a_node_is_there_and_stays_well(whole: World, node: Node) -> None:
    found = whole.get("node", NAME)
    assert found["metadata"]["labels"][PROCESSES_LABEL] == "true"
    assert not found["spec"].get("taints")
    lease = whole.get("lease", NAME, "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == NAME
    renewed = lease["spec"]["renewTime"]
    until(
        lambda: whole.get("lease", NAME, "kube-node-lease")["spec"]["renewTime"] != renewed,
        "a renewed Lease", 20,
    )  # fmt: skip


def test_pods_of_a_deployment_are_endpoints_and_go_in_order(whole: World, space: str) -> None:
    whole.apply(deployment("web", replicas=2), service("web"), namespace=space)
    until(lambda: len(ready_endpoints(whole, "web", space)) == 2, "two ready endpoints")
    addresses = ready_endpoints(whole, "web", space)
    assert {ask(address) for address in addresses} == {b"well"}
    (pod, *_) = json.loads(
        whole.api.kubectl("get", "pods", "-n", space, "-l", "app=web", "-o", "json")
    )["items"]
    assert pod["status"]["podIP"] in addresses
    assert pod["status"]["qosClass"] == "BestEffort"
    log = whole.api.kubectl("logs", pod["metadata"]["name"], "-n", space)
    assert "serving" in log
    whole.api.kubectl("scale", "deployment/web", "--replicas=0", "-n", space)
    until(lambda: not ready_endpoints(whole, "web", space), "no endpoint")
    gone = "wait", "--for=delete", "pod", "-l", "app=web", "-n", space, "--timeout=30s"
    whole.api.kubectl(*gone)
    for address in addresses:
        with pytest.raises(OSError, match="refused"):
            ask(address)


def test_volumes_and_credentials(whole: World, space: str, folder: Path) -> None:
    """All of them, an init container that fills one, and the API asked with the pod's own token."""
    kept = folder / space
    kept.mkdir()
    (kept / "model").write_text("kept")
    whole.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it"},
         "data": {"colour": "green"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "it"},
         "stringData": {"word": "sesame"}},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": space},
         "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"],
                  "storageClassName": "", "hostPath": {"path": str(kept)}}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "it"},
         "spec": {"accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": space,
                  "resources": {"requests": {"storage": "1Gi"}}}},
        namespace=space,
    )  # fmt: skip
    asking = (
        "import os, ssl, urllib.request\n"
        "folder = '/var/run/secrets/kubernetes.io/serviceaccount'\n"
        "where = os.environ['KUBERNETES_SERVICE_HOST'], os.environ['KUBERNETES_SERVICE_PORT']\n"
        "url = 'https://%s:%s/version' % where\n"
        "token = {'Authorization': 'Bearer ' + open(folder + '/token').read()}\n"
        "tls = ssl.create_default_context(cafile=folder + '/ca.crt')\n"
        "found = urllib.request.urlopen(urllib.request.Request(url, headers=token), context=tls)\n"
        "open('/tmp/version', 'wb').write(found.read())\n"
    )
    mounts = [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "map", "mountPath": "/etc/it/map"},
        {"name": "secret", "mountPath": "/etc/it/secret"},
        {"name": "claim", "mountPath": "/mnt/models"},
    ]
    volumes = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "map", "configMap": {"name": "it"}},
        {"name": "secret", "secret": {"secretName": "it"}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "it"}},
    ]
    first = {**server(volumeMounts=mounts[:1]), "name": "first", "readinessProbe": None}
    init = {**first, "command": ["python", "-c", asking]}
    whole.apply(
        deployment(
            "web", containers=[server(volumeMounts=mounts)], initContainers=[init], volumes=volumes
        ),
        service("web"),
        namespace=space,
    )
    (address,) = until(lambda: ready_endpoints(whole, "web", space), "a ready endpoint")
    assert ask(address, "/etc/it/map/colour") == b"green"
    assert ask(address, "/etc/it/secret/word") == b"sesame"
    assert ask(address, "/mnt/models/model") == b"kept"
    assert json.loads(ask(address, "/tmp/version"))["major"] == "1"
    whole.api.kubectl("delete", "pv", space, "--wait=false")


def test_a_service_is_served(whole: World, space: str, folder: Path) -> None:
    """From an InferenceService to an answer: all but the gateway."""
    model = folder / f"{space}-iris"
    model.mkdir()
    sklearn_classifier(model)
    predictor = {
        "minReplicas": 1,
        "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{model}",
                  "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}},
    }  # fmt: skip
    with whole.controller("for-node"):
        whole.apply(
            {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
             "metadata": {"name": "iris"}, "spec": {"predictor": predictor}},
            namespace=space,
        )  # fmt: skip
        name = "iris-predictor-00001-private"
        (address,) = until(lambda: ready_endpoints(whole, name, space), "a ready endpoint")
        answer = ask(address, "/v1/models/iris:predict", {"instances": ROWS})
        assert json.loads(answer) == {"predictions": [1, 1]}
        whole.api.kubectl("delete", "isvc", "iris", "-n", space, "--timeout=30s")


def test_pods_run_on_while_the_api_server_is_away(whole: World, space: str) -> None:
    whole.apply(deployment("web"), service("web"), namespace=space)
    (address,) = until(lambda: ready_endpoints(whole, "web", space), "a ready endpoint")
    whole.api.kill_api()
    assert ask(address) == b"well"
    whole.api.start_api()
    lease = whole.get("lease", NAME, "kube-node-lease")["spec"]["renewTime"]
    until(
        lambda: whole.get("lease", NAME, "kube-node-lease")["spec"]["renewTime"] > lease,
        "a renewed Lease", 40,
    )  # fmt: skip
    assert ready_endpoints(whole, "web", space) == [address]
    (pod,) = json.loads(whole.api.kubectl("get", "pods", "-n", space, "-o", "json"))["items"]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    whole.apply(deployment("web", replicas=2), namespace=space)
    until(lambda: len(ready_endpoints(whole, "web", space)) == 2, "a second ready endpoint")


def test_pods_come_back_after_the_node_was_away(whole: World, node: Node, space: str) -> None:
    """Its end is told at once; the same pods run again when it is back."""
    whole.apply(deployment("web"), service("web"), namespace=space)
    until(lambda: ready_endpoints(whole, "web", space), "a ready endpoint")
    assert node.end() == 0
    until(lambda: not ready_endpoints(whole, "web", space), "no endpoint")
    node.start()
    (address,) = until(lambda: ready_endpoints(whole, "web", space), "a ready endpoint again")
    assert ask(address) == b"well"
    pods = json.loads(whole.api.kubectl("get", "pods", "-n", space, "-o", "json"))["items"]
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods] == [1]
