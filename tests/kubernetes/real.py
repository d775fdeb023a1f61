"""A Kubernetes whose nodes really run pods: what tests ask of it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kedge.install.values import Values
from kedge.lib.addresses import bracket
from kedge.lib.certificates import Pair

Object = dict[str, Any]
VALUES = Values()
FLOWERS = {
    "inputs": [
        {"name": "input-0", "shape": [2, 4], "datatype": "FP64",
         "data": [6.8, 2.8, 4.8, 1.4, 6.0, 3.4, 4.5, 1.6]}
    ]
}  # fmt: skip
OLD, NEW = "[1, 1]", "[11, 11]"
"""What the two models say of these flowers."""

_ASKING = Path(__file__).with_name("asking.py")
_MODELS = """
import functools, http.server, joblib, os, socket
from sklearn.datasets import load_iris
from sklearn.svm import SVC
flowers = load_iris()
for folder, labels in (("old", flowers.target), ("new", flowers.target + 10)):
    os.makedirs(f"/tmp/models/{folder}")
    joblib.dump(SVC(gamma="scale").fit(flowers.data, labels), f"/tmp/models/{folder}/model.joblib")
if socket.has_dualstack_ipv6():
    http.server.ThreadingHTTPServer.address_family = socket.AF_INET6
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/tmp/models")
http.server.ThreadingHTTPServer(("", 8000), handler).serve_forever()
"""

_HASTY = """
import http.server, os, signal, socket, sys
if socket.has_dualstack_ipv6():
    http.server.ThreadingHTTPServer.address_family = socket.AF_INET6
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = ('{"outputs": [{"data": "%s"}]}' % sys.argv[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
"""


class RealCluster:
    """One cluster and one namespace in it.

    Attributes:
        kubeconfig: an administrator's.
        namespace: the tests' own.
        models: base URL of the model files.
        gateway: base URL of the gateway, in the cluster.
    """

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.models = ""
        self.gateway = ""
        assets = os.environ.get("KUBEBUILDER_ASSETS", "")
        self._kubectl = shutil.which("kubectl", path=f"{assets}:{os.environ['PATH']}") or "kubectl"

    def kubectl(self, *arguments: str, given: str = "", seconds: float = 120.0) -> str:
        """What kubectl prints; it must succeed."""
        done = self.try_kubectl(*arguments, given=given, seconds=seconds)
        assert done.returncode == 0, f"kubectl {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_kubectl(
        self, *arguments: str, given: str = "", seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._kubectl, f"--kubeconfig={self.kubeconfig}", *arguments],
            input=given, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip

    def kedge(self, *arguments: str, seconds: float = 400.0) -> subprocess.CompletedProcess[str]:
        """A verb of Kedge's."""
        return subprocess.run(
            [sys.executable, "-m", "kedge", *arguments, f"--kubeconfig={self.kubeconfig}"],
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip

    def apply(self, *objects: Object) -> str:
        given = yaml.safe_dump_all(objects)
        return self.kubectl("apply", "-n", self.namespace, "-f", "-", given=given)

    def get(self, resource: str, name: str, namespace: str = "") -> Object | None:
        """An object; None where it is not."""
        space = namespace or self.namespace
        text = self.kubectl("get", resource, name, "-n", space, "-o=json", "--ignore-not-found")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def find_all(self, resource: str, labels: str = "", namespace: str = "") -> list[Object]:
        place = ["-n", namespace or self.namespace, *(["-l", labels] if labels else [])]
        items: list[Object] = json.loads(self.kubectl("get", resource, *place, "-o=json"))["items"]
        return items

    def everything(self) -> set[str]:
        """Every object of every kind, but for what the cluster's own processes keep writing."""
        listed = self.kubectl("api-resources", "--verbs=list", "-o=name", "--cached=false")
        kinds = [
            kind
            for kind in listed.split()
            if kind.split(".")[0] not in _NOT_OURS and not kind.endswith(_MEASURED)
        ]
        found = json.loads(self.kubectl("get", ",".join(kinds), "-A", "-o=json"))
        return {
            f"{obj['kind']} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
            for obj in found["items"]
        }

    # -- services --------------------------------------------------------------------------

    def iris(
        self, name: str, model: str = "old", annotations: dict[str, str] | None = None, **more: Any
    ) -> Object:
        """A service of one of the two models."""
        uri = f"{self.models}/{model}/model.joblib"
        served = {"modelFormat": {"name": "sklearn"}, "storageUri": uri}
        return {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "annotations": annotations or {}},
            "spec": {"predictor": {"model": served, **more}},
        }

    def hasty(self, name: str, answer: str, replicas: int) -> Object:
        """A service of a server that ends at the first SIGTERM, whatever it is doing."""
        container = {
            "name": "kserve-container",
            "image": VALUES.image("controller"),
            "command": ["python", "-c", _HASTY, answer],
            "ports": [{"containerPort": 8080}],
        }
        service = self.iris(name, annotations={"serving.kserve.io/deploymentMode": "Standard"})
        service["spec"]["predictor"] = {"containers": [container], "minReplicas": replicas}
        return service

    def await_ready(self, name: str, seconds: float = 120.0) -> Object:
        """The service once it is Ready as it was last asked for."""
        end = time.monotonic() + seconds
        while True:
            found = self.get("inferenceservice", name)
            assert found is not None
            status = found.get("status") or {}
            conditions = {one["type"]: one for one in status.get("conditions") or ()}
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            if seen and conditions.get("Ready", {}).get("status") == "True":
                return found
            assert time.monotonic() < end, f"{name} is not Ready: {conditions}"
            time.sleep(0.2)

    def running(self, name: str) -> list[Object]:
        """Pods of a service that are not on their way out."""
        pods = self.find_all("pods", f"serving.kserve.io/inferenceservice={name}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def ask(
        self, name: str, *, seconds: float = 0, rate: float = 0, patience: float = 60,
        base: str = "", host: str = "", path: str = "", body: Object | None = None,
        authority: bytes = b"",
    ) -> Any:  # fmt: skip
        """Ask a service from a pod; see `asking`.

        Args:
            base: another way than the gateway's address: as pods of the cluster go.
            host: what to call it there; else as the base does.
            path: another request than Open Inference's, with another `body`.
            authority: ask by HTTPS, and believe certificates of this one.
        """
        way = base or self.gateway
        if not base:
            host = f"{name}-{self.namespace}.{VALUES.ingress.domain}"
        if authority:
            way = way.replace("http://", "https://")
        wanted = {
            "url": f"{way}{path or f'/v2/models/{name}/infer'}",
            "headers": {"Host": host} if host else {},
            "body": body or FLOWERS, "seconds": seconds, "rate": rate, "timeout": patience,
            **({"authority": authority.decode()} if authority else {}),
        }  # fmt: skip
        command = ("exec", "-i", "client", "-n", self.namespace, "--", "python",
                   "/script/asking.py")  # fmt: skip
        text = self.kubectl(*command, given=json.dumps(wanted), seconds=seconds + patience + 60)
        return json.loads(text)

    def inside(self, name: str) -> str:
        """Base URL of a service's own Service, for those in the cluster."""
        return f"http://{self._address(name, self.namespace)}"

    def serve_https(self, pair: Pair) -> None:
        """Bring or renew the certificate of the gateway: the Secret `wildcard`."""
        data = {"tls.crt": pair.certificate, "tls.key": pair.key}
        secret = {
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "wildcard"},
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }  # fmt: skip
        given = yaml.safe_dump(secret)
        self.kubectl("apply", "-n", VALUES.namespace, "-f", "-", given=given)

    @contextlib.contextmanager
    def forwarded(self) -> Iterator[str]:
        """`HOST:PORT` of this machine that leads to the gateway."""
        with subprocess.Popen(
            [self._kubectl, f"--kubeconfig={self.kubeconfig}", "port-forward", "-n",
             VALUES.namespace, "service/kedge-gateway", ":80"],
            stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                assert process.stdout is not None
                yield process.stdout.readline().split()[2]
            finally:
                process.kill()

    @contextlib.contextmanager
    def asked(
        self, name: str, *, seconds: float, rate: float, authority: bytes = b""
    ) -> Iterator[Object]:
        """A constant load for the length of the block and at least `seconds`; filled at its end."""
        result: Object = {}
        thread = threading.Thread(
            target=lambda: result.update(
                self.ask(name, seconds=seconds, rate=rate, authority=authority)
            )
        )
        thread.start()
        try:
            time.sleep(2)
            yield result
        finally:
            thread.join()

    # -- what is there besides services ----------------------------------------------------

    def prepare(self) -> None:
        """Model files and a client, as pods."""
        script = {"asking.py": _ASKING.read_text()}
        meta = {"name": "asking", "namespace": self.namespace}
        self.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": script},
            _pod("models", "sklearnserver", ["python", "-c", _MODELS]),
            _pod("client", "controller", ["sleep", "86400"]),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "models"},
                "spec": {
                    "selector": {"app": "models"},
                    "ports": [{"port": 80, "targetPort": 8000}],
                },
            },
        )
        self.kubectl("wait", "-n", self.namespace, "--for=condition=Ready", "--timeout=90s",
                     "pod/models", "pod/client")  # fmt: skip
        self.models = f"http://{self._address('models', self.namespace)}"

    def find_gateway(self) -> None:
        self.gateway = f"http://{self._address('kedge-gateway', VALUES.namespace)}"

    def _address(self, service: str, namespace: str) -> str:
        found = self.get("service", service, namespace)
        assert found is not None
        return bracket(found["spec"]["clusterIP"])


@contextlib.contextmanager
def kubelets() -> Iterator[RealCluster]:
    """The cluster that `KEDGE_TEST_CLUSTER` names; the test is skipped where it names none."""
    kubeconfig = os.environ.get("KEDGE_TEST_CLUSTER")
    if not kubeconfig:
        pytest.skip("KEDGE_TEST_CLUSTER names no kubeconfig of a cluster that runs pods")
    yield RealCluster(Path(kubeconfig), f"story-{secrets.token_hex(2)}")


_NOT_OURS = ("events", "leases", "componentstatuses", "apiservices", "ipaddresses", "nodes")
_MEASURED = "metrics.k8s.io"


def _pod(name: str, image: str, command: list[str]) -> Object:
    ready = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    container = {
        "name": name,
        "image": VALUES.image(image),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "volumeMounts": [
            {"name": "script", "mountPath": "/script"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        **({"readinessProbe": ready} if name == "models" else {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 1,
            "volumes": [
                {"name": "script", "configMap": {"name": "asking"}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }
