"""The machine's own kubectl against the façade: what needs no controllers."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.facade_world import RunningFacade

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl here")

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: c
        image: app:1
        ports: [{{containerPort: 80}}]
        env: [{env}]
"""
A, B = '{name: A, value: "1"}', '{name: B, value: "2"}'
ISVC = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris}
spec:
  predictor:
    model:
      modelFormat: {name: sklearn}
      storageUri: file:///models/iris
"""


@pytest.fixture(scope="module")
def facade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFacade]:
    running = RunningFacade(tmp_path_factory.mktemp("facade"))
    running.start()
    yield running
    running.stop()


Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(facade: RunningFacade) -> Iterator[Kubectl]:
    """kubectl; whatever the test made is gone afterwards."""
    yield facade.kubectl
    facade.kubectl("delete", "deploy,svc,cm,po,isvc", "--all", "--wait=false", "--now")


def read(kubectl: Kubectl, *what: str) -> Any:
    return json.loads(kubectl("get", *what, "-o", "json"))


def test_client_side_apply(kubectl: Kubectl) -> None:
    manifest = DEPLOYMENT.format(name="web", env=f"{A}, {B}")
    assert "deployment.apps/web created" in kubectl("apply", "-f", "-", stdin=manifest)
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=manifest)
    fewer = DEPLOYMENT.format(name="web", env=A)
    assert "configured" in kubectl("apply", "-f", "-", stdin=fewer)
    (container,) = read(kubectl, "deploy", "web")["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "A", "value": "1"}]
    assert "configured (server dry run)" in kubectl(
        "apply", "-f", "-", "--dry-run=server", stdin=manifest
    )


def test_server_side_apply(kubectl: Kubectl) -> None:
    manifest = DEPLOYMENT.format(name="web", env=A)
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", stdin=manifest)
    other = manifest.replace("replicas: 2", "replicas: 3")
    manager = "--field-manager=other"
    refused = kubectl("apply", "--server-side", manager, "-f", "-", stdin=other, fails=True)
    assert ".spec.replicas" in refused
    assert "--force-conflicts" in refused
    kubectl("apply", "--server-side", manager, "--force-conflicts", "-f", "-", stdin=other)
    assert read(kubectl, "deploy", "web")["spec"]["replicas"] == 3


def test_from_client_side_to_server_side_apply(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name="web", env=f"{A}, {B}"))
    fewer = DEPLOYMENT.format(name="web", env=A)
    kubectl("apply", "--server-side", "-f", "-", stdin=fewer)
    (container,) = read(kubectl, "deploy", "web")["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "A", "value": "1"}]


def test_get_in_every_form(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name="web", env=A))
    kubectl("apply", "-f", "-", stdin=ISVC)
    assert kubectl("get", "deploy").split()[:5] == [
        "NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE",
    ]  # fmt: skip
    wide = kubectl("get", "deploy", "-o", "wide").splitlines()
    assert wide[0].split()[-3:] == ["CONTAINERS", "IMAGES", "SELECTOR"]
    assert wide[1].split()[-3:] == ["c", "app:1", "app=web"]
    header = kubectl("get", "isvc").splitlines()[0].split()
    assert header == [
        "NAME", "URL", "READY", "PREV", "LATEST", "PREVROLLEDOUTREVISION", "LATESTREADYREVISION",
        "AGE",
    ]  # fmt: skip
    assert "kind: InferenceService" in kubectl("get", "isvc", "iris", "-o", "yaml")
    assert "managedFields" in kubectl("get", "isvc", "iris", "-o", "yaml", "--show-managed-fields")
    assert kubectl("get", "isvc", "iris", "-o", "name").strip() == (
        "inferenceservice.serving.kserve.io/iris"
    )
    path = "{.spec.predictor.model.modelFormat.name}"
    assert kubectl("get", "isvc", "iris", "-o", f"jsonpath={path}") == "sklearn"
    assert kubectl("get", "deploy", "-l", "app=web", "-o", "name").strip() == "deployment.apps/web"
    assert kubectl("get", "deploy", "-l", "app!=web", "-o", "name").strip() == ""
    field = "metadata.name=web"
    assert "web" in kubectl("get", "deploy", "--field-selector", field)
    assert "deployment.apps/web" in kubectl("get", "all", "-A")


def test_paging(kubectl: Kubectl) -> None:
    for number in range(5):
        kubectl("create", "cm", f"page-{number}")
    listed = kubectl("get", "cm", "--chunk-size=2", "-o", "name").split()
    assert listed == [f"configmap/page-{number}" for number in range(5)]


def test_watch(facade: RunningFacade, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name="web", env=A))
    watch = subprocess.Popen(
        ["kubectl", "get", "deploy", "-w", "--output-watch-events"],
        stdout=subprocess.PIPE, text=True, env=facade.environment,
    )  # fmt: skip
    try:
        assert watch.stdout is not None
        assert watch.stdout.readline().split()[:2] == ["EVENT", "NAME"]
        assert watch.stdout.readline().split()[:3] == ["ADDED", "web", "0/2"]
        kubectl("scale", "deployment", "web", "--replicas=4")
        assert watch.stdout.readline().split()[:3] == ["MODIFIED", "web", "0/4"]
        kubectl("delete", "deploy", "web")
        assert watch.stdout.readline().split()[:2] == ["DELETED", "web"]
    finally:
        watch.kill()
        watch.communicate()


def test_describe(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name="web", env=A))
    kubectl("apply", "-f", "-", stdin=ISVC)
    uid = read(kubectl, "isvc", "iris")["metadata"]["uid"]
    event = {
        "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "ModelMissing",
        "metadata": {"name": "iris.1"}, "message": "no model there",
        "involvedObject": {
            "kind": "InferenceService", "name": "iris", "namespace": "default", "uid": uid,
            "apiVersion": "serving.kserve.io/v1beta1",
        },
        "source": {"component": "kedge"}, "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1,
    }  # fmt: skip
    kubectl("create", "-f", "-", stdin=json.dumps(event))
    described = kubectl("describe", "isvc", "iris")
    assert "Storage Uri:  file:///models/iris" in described
    assert "ModelMissing" in described
    assert "no model there" in described
    assert "ModelMissing" in kubectl("get", "events")
    assert "ModelMissing" in kubectl("events", "--for", "isvc/iris")
    assert "2 desired | 0 updated" in kubectl("describe", "deploy", "web")


def test_edit(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=ISVC)
    kubectl("edit", "isvc", "iris", KUBE_EDITOR="sed -i s/sklearn/xgboost/")
    assert read(kubectl, "isvc", "iris")["spec"]["predictor"]["model"]["modelFormat"] == {
        "name": "xgboost"
    }
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name="web", env=A))
    kubectl("edit", "deploy", "web", KUBE_EDITOR="sed -i s/app:1/app:2/")
    assert kubectl("get", "deploy", "-o", "wide").splitlines()[1].split()[-2] == "app:2"


def test_scale_label_annotate(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name="web", env=A))
    kubectl("scale", "deployment", "web", "--replicas=5", "--current-replicas=2")
    kubectl("label", "deploy", "web", "tier=front")
    kubectl("annotate", "deploy", "web", "note=hello")
    kubectl("label", "deploy", "web", "app-")
    found = read(kubectl, "deploy", "web")
    assert found["spec"]["replicas"] == 5
    assert found["metadata"]["labels"] == {"tier": "front"}
    assert found["metadata"]["annotations"]["note"] == "hello"
    kubectl("set", "image", "deploy/web", "c=app:9")
    kubectl("rollout", "restart", "deploy/web")
    template = read(kubectl, "deploy", "web")["spec"]["template"]
    assert template["spec"]["containers"][0]["image"] == "app:9"
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


def test_patch_of_each_type(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name="web", env=A))
    strategic = {"spec": {"template": {"spec": {"containers": [{"name": "c", "args": ["x"]}]}}}}
    kubectl("patch", "deploy", "web", "-p", json.dumps(strategic))
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 7}]
    kubectl("patch", "deploy", "web", "--type=json", "-p", json.dumps(operations))
    kubectl("patch", "deploy", "web", "--type=merge", "-p", '{"spec":{"minReadySeconds":3}}')
    status = '{"status":{"readyReplicas":1}}'
    kubectl("patch", "deploy", "web", "--subresource=status", "--type=merge", "-p", status)
    found = read(kubectl, "deploy", "web")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert (container["args"], container["image"]) == (["x"], "app:1")
    assert (found["spec"]["replicas"], found["spec"]["minReadySeconds"]) == (7, 3)
    assert found["status"] == {"readyReplicas": 1}


def test_wait(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=ISVC)
    condition = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    kubectl(
        "patch", "isvc", "iris", "--subresource=status", "--type=merge", "-p", json.dumps(condition)
    )
    assert "condition met" in kubectl("wait", "--for=condition=Ready", "isvc/iris", "--timeout=9s")
    kubectl("delete", "isvc", "iris", "--wait=false")
    kubectl("wait", "--for=delete", "isvc/iris", "--timeout=9s")


def test_explain(kubectl: Kubectl) -> None:
    explained = kubectl("explain", "isvc.spec.predictor.model")
    assert "storageUri" in explained
    assert "containerPort" in kubectl("explain", "deploy.spec.template.spec.containers.ports")
    old = kubectl("explain", "--output=plaintext-openapiv2", "isvc.spec.predictor.model")
    assert "storageUri" in old
    assert "minReplicas" in kubectl("explain", "isvc.spec.predictor", "--recursive")


def test_what_there_is(kubectl: Kubectl) -> None:
    resources = kubectl("api-resources")
    assert "isvc" in resources
    assert "serving.kserve.io/v1beta1" in resources
    assert "apps/v1" in kubectl("api-versions")
    assert json.loads(kubectl("get", "--raw", "/version"))["gitVersion"].startswith("v1.")
    assert kubectl("get", "--raw", "/readyz") == "ok"
    assert "inferenceservices.serving.kserve.io" in kubectl("get", "crd")
    assert kubectl("get", "crd", "inferenceservices.serving.kserve.io", "-o", "name")


def test_who_may_do_what(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "isvc").strip() == "yes"
    assert "*.*" in kubectl("auth", "can-i", "--list")
    assert "kedge:admin" in kubectl("auth", "whoami")


def test_create_verbs(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=app:1", "--port=80")
    kubectl("expose", "deployment", "web")
    kubectl("create", "configmap", "made", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "made", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "made")
    kubectl("run", "made", "--image=app:1", "--command", "--", "sleep", "1")
    assert read(kubectl, "svc", "web")["spec"]["ports"][0]["port"] == 80
    assert read(kubectl, "secret", "made")["data"] == {"a": "Yg=="}
    assert read(kubectl, "pod", "made")["spec"]["containers"][0]["command"] == ["sleep", "1"]
    kubectl("delete", "secret/made", "sa/made")


def test_namespaces(kubectl: Kubectl) -> None:
    assert "not found" in kubectl("create", "cm", "x", "-n", "other", fails=True)
    kubectl("create", "ns", "other")
    kubectl("create", "cm", "x", "-n", "other")
    kubectl("delete", "ns", "other", "--timeout=9s")
    assert "NotFound" in kubectl("get", "ns", "other", fails=True)


def test_delete(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=DEPLOYMENT.format(name="web", env=A))
    assert "deleted" in kubectl("delete", "deploy", "web", "--cascade=foreground")
    kubectl("create", "cm", "one")
    kubectl("create", "cm", "two")
    assert kubectl("delete", "cm", "--all").count("deleted") == 2
    assert "NotFound" in kubectl("delete", "deploy", "web", fails=True)
    kubectl("delete", "deploy", "web", "--ignore-not-found")


def test_field_validation(kubectl: Kubectl) -> None:
    wrong = ISVC.replace("storageUri", "storageURI")
    assert "storageURI" in kubectl("apply", "-f", "-", stdin=wrong, fails=True)
    warned = kubectl("apply", "--validate=warn", "-f", "-", stdin=wrong)
    assert 'Warning: unknown field "spec.predictor.model.storageURI"' in warned
    typed = DEPLOYMENT.format(name="web", env=A).replace("replicas: 2", 'replicas: "two"')
    assert "spec.replicas" in kubectl("apply", "-f", "-", stdin=typed, fails=True)


def test_the_old_group(kubectl: Kubectl) -> None:
    old = ISVC.replace("serving.kserve.io", "serving.kubeflow.org")
    kubectl("apply", "-f", "-", stdin=old)
    assert read(kubectl, "isvc", "iris")["apiVersion"] == "serving.kserve.io/v1beta1"
    assert "iris" in kubectl("get", "inferenceservices.serving.kubeflow.org")
    kubectl("apply", "-f", "-", stdin=old.replace("sklearn", "xgboost"))
    model = read(kubectl, "isvc", "iris")["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "xgboost"}
    kubectl("delete", "-f", "-", stdin=old)


@pytest.fixture
def pod_log(facade: RunningFacade, kubectl: Kubectl) -> Path:
    """The log of a pod that runs, as far as its status tells."""
    kubectl("run", "talks", "--image=app:1")
    status: dict[str, Any] = {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "talks", "image": "app:1", "imageID": "", "ready": True,
                "restartCount": 1, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }
        ],
    }  # fmt: skip
    patch = json.dumps({"status": status})
    kubectl("patch", "pod", "talks", "--subresource=status", "--type=merge", "-p", patch)
    uid = read(kubectl, "pod", "talks")["metadata"]["uid"]
    log: Path = facade.folder / "pods" / uid / "logs" / "talks" / "1.log"
    log.parent.mkdir(parents=True)
    log.with_name("0.log").write_text("before the restart\n")
    log.write_text("one\ntwo\nthree\n")
    return log


def test_logs(facade: RunningFacade, kubectl: Kubectl, pod_log: Path) -> None:
    assert kubectl("logs", "talks") == "one\ntwo\nthree\n"
    assert kubectl("logs", "talks", "--tail=2") == "two\nthree\n"
    assert kubectl("logs", "talks", "--previous") == "before the restart\n"
    assert kubectl("logs", "talks", "--timestamps", "--tail=1").endswith("Z three\n")
    assert "not valid" in kubectl("logs", "talks", "-c", "other", fails=True)
    follow = subprocess.Popen(
        ["kubectl", "logs", "-f", "talks", "--tail=1"],
        stdout=subprocess.PIPE, text=True, env=facade.environment,
    )  # fmt: skip
    try:
        assert follow.stdout is not None
        assert follow.stdout.readline() == "three\n"
        with pod_log.open("a") as file:
            file.write("four\n")
        assert follow.stdout.readline() == "four\n"
        ended = [{"op": "replace", "path": "/status/containerStatuses/0/state", "value": {
            "terminated": {"exitCode": 0},
        }}]  # fmt: skip
        kubectl(
            "patch", "pod", "talks", "--subresource=status", "--type=json", "-p", json.dumps(ended)
        )
        assert follow.stdout.read() == ""
        assert follow.wait(10) == 0
    finally:
        follow.kill()
        follow.communicate()


def test_what_was_acknowledged_survives_a_kill(facade: RunningFacade, kubectl: Kubectl) -> None:
    """What was acknowledged before a kill -9 is there after it, under a new port."""
    kubectl("create", "cm", "kept", "--from-literal=a=b")
    facade.stop()
    facade.start()
    deadline = time.monotonic() + 20
    while "ok" not in kubectl("get", "--raw", "/readyz"):
        assert time.monotonic() < deadline
    assert read(kubectl, "cm", "kept")["data"] == {"a": "b"}
