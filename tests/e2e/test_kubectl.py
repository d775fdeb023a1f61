"""A user's day with plain kubectl against `kedge up`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.running import RunningKedge, wait_for
from tests.e2e.test_ready import manifest

from kedge.api.scheme import DEPLOYMENT, HTTP_ROUTE

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

NAME = "by-kubectl"


@pytest.fixture(scope="module")
def isvc(
    kedge: RunningKedge, iris: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The manifest's file; the service it made is Ready."""
    path = tmp_path_factory.mktemp("manifests") / "iris.yaml"
    path.write_text(json.dumps(manifest(NAME, iris)))
    assert "created" in kedge.kubectl("apply", "-f", str(path))
    kedge.kubectl("wait", "--for=condition=Ready", f"isvc/{NAME}", "--timeout=60s")
    yield path
    assert "deleted" in kedge.kubectl("delete", "-f", str(path))
    wait_for(lambda: NAME not in kedge.kubectl("get", "isvc,deploy,rs,pods,svc,httproutes"))


def latest(kedge: RunningKedge) -> str:
    """The Deployment of the newest revision, once it has all the traffic."""

    def settled() -> str:
        predictor = kedge.service(NAME)["status"]["components"]["predictor"]
        newest = str(predictor["latestCreatedRevision"])
        shares = {share["revisionName"]: share["percent"] for share in predictor["traffic"]}
        return f"deployment/{newest}" if shares == {newest: 100} else ""

    return wait_for(settled, 60)


def test_apply_again_changes_nothing(kedge: RunningKedge, isvc: Path) -> None:
    assert "unchanged" in kedge.kubectl("apply", "-f", str(isvc))
    assert kedge.kubectl("diff", "-f", str(isvc)) == ""


def test_apply_on_the_server_side(kedge: RunningKedge, isvc: Path) -> None:
    out = kedge.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(isvc))
    assert "serverside-applied" in out
    managers = [
        entry["manager"]
        for entry in json.loads(
            kedge.kubectl("get", "isvc", NAME, "--show-managed-fields", "-o", "json")
        )["metadata"]["managedFields"]
    ]
    assert "kubectl" in managers


def test_get_shows_the_columns(kedge: RunningKedge, isvc: Path) -> None:
    lines = kedge.kubectl("get", "isvc", NAME).splitlines()
    assert lines[0].split()[:5] == ["NAME", "URL", "READY", "PREV", "LATEST"]
    values = lines[1].split()
    assert values[0] == NAME
    assert values[1].startswith(f"http://{NAME}-default.localhost")
    assert values[2] == "True"
    assert "100" in values
    assert f"{NAME}-predictor-00001" in lines[1]
    assert NAME in kedge.kubectl("get", "inferenceservices.serving.kserve.io", "-A", "-o", "wide")


def test_get_watches(kedge: RunningKedge, isvc: Path) -> None:
    watching = subprocess.Popen(
        ["kubectl", "get", "isvc", NAME, "-w"],
        env=kedge.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout is not None
    seen = [watching.stdout.readline(), watching.stdout.readline()]
    kedge.kubectl("annotate", "isvc", NAME, "note=watched", "--overwrite")
    seen.append(watching.stdout.readline())
    watching.terminate()
    watching.communicate()
    assert seen[0].startswith("NAME")
    assert all(line.startswith(NAME) for line in seen[1:])


def test_describe_tells_conditions_and_events(kedge: RunningKedge, isvc: Path) -> None:
    text = kedge.kubectl("describe", "isvc", NAME)
    assert "PredictorReady" in text
    assert "InferenceServiceReady" in text
    pods = kedge.kubectl("describe", "pods", "-l", f"serving.kserve.io/inferenceservice={NAME}")
    assert "kserve-container" in pods
    assert "Started" in pods


def test_logs(kedge: RunningKedge, isvc: Path) -> None:
    selector = f"serving.kserve.io/inferenceservice={NAME}"
    pod = kedge.kubectl("get", "pods", "-l", selector, "-o", "name").split()[0]
    assert kedge.kubectl("logs", pod, "--tail=5")
    following = subprocess.Popen(
        ["kubectl", "logs", "-f", pod, "-c", "kserve-container"],
        env=kedge.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert following.stdout is not None
    assert following.stdout.readline()
    following.terminate()
    following.communicate()


def test_edit(kedge: RunningKedge, isvc: Path, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/^  name: .*/&\\n  labels: {edited: yes-it-is}/" "$1"\n')
    editor.chmod(0o755)
    done = subprocess.run(
        ["kubectl", "edit", "isvc", NAME],
        env={**kedge.environment, "EDITOR": str(editor), "KUBE_EDITOR": str(editor)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "edited" in done.stdout, done.stderr
    assert kedge.service(NAME)["metadata"]["labels"]["edited"] == "yes-it-is"


def test_label_annotate_and_every_patch(kedge: RunningKedge, isvc: Path) -> None:
    kedge.kubectl("label", "isvc", NAME, "team=blue", "--overwrite")
    assert NAME in kedge.kubectl("get", "isvc", "-l", "team=blue", "-o", "name")
    kedge.kubectl("annotate", "isvc", NAME, "note=first", "--overwrite")
    merge = json.dumps({"metadata": {"annotations": {"note": "merged"}}})
    kedge.kubectl("patch", "isvc", NAME, "--type=merge", "-p", merge)
    assert kedge.service(NAME)["metadata"]["annotations"]["note"] == "merged"
    operations = [{"op": "replace", "path": "/metadata/annotations/note", "value": "replaced"}]
    kedge.kubectl("patch", "isvc", NAME, "--type=json", "-p", json.dumps(operations))
    assert kedge.service(NAME)["metadata"]["annotations"]["note"] == "replaced"
    deployment = latest(kedge)
    strategic = json.dumps({"metadata": {"annotations": {"mine": "strategic"}}})
    kedge.kubectl("patch", deployment, "--type=strategic", "-p", strategic)
    name = deployment.partition("/")[2]
    assert kedge.stored(DEPLOYMENT, name)["metadata"]["annotations"]["mine"] == "strategic"


def test_scale_and_rollout_status(kedge: RunningKedge, isvc: Path) -> None:
    deployment = latest(kedge)
    selector = f"serving.knative.dev/revision={deployment.partition('/')[2]}"
    assert "scaled" in kedge.kubectl("scale", deployment, "--replicas=2")
    status = kedge.kubectl("rollout", "status", deployment, "--timeout=60s")
    assert "successfully rolled out" in status
    # Nobody asks: Kedge's own autoscaler takes the second pod back.
    wait_for(lambda: len(kedge.kubectl("get", "pods", "-l", selector, "-o", "name").split()) == 1)


def test_explain_api_resources_and_can_i(kedge: RunningKedge) -> None:
    explained = kedge.kubectl("explain", "isvc.spec.predictor.model")
    assert "storageUri" in explained
    assert "modelFormat" in explained
    resources = kedge.kubectl("api-resources")
    assert "isvc" in resources
    assert "clusterservingruntimes" in resources
    assert kedge.kubectl("auth", "can-i", "create", "isvc").strip() == "yes"


def test_the_gateway_says_where_it_is(kedge: RunningKedge) -> None:
    kedge.kubectl("wait", "--for=condition=Accepted", "gatewayclass/kedge", "--timeout=20s")
    kedge.kubectl(
        "wait", "--for=condition=Programmed", "gateway/kedge-gateway", "-n", "kedge",
        "--timeout=20s",
    )  # fmt: skip
    lines = kedge.kubectl("get", "gateway", "kedge-gateway", "-n", "kedge").splitlines()
    assert lines[0].split() == ["NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"]
    assert lines[1].split()[1:4] == ["kedge", "127.0.0.1", "True"]


def test_a_service_for_the_cluster_alone_is_taken_by_its_listener(
    kedge: RunningKedge, isvc: Path
) -> None:
    label = "networking.kserve.io/visibility"
    kedge.kubectl("label", "isvc", NAME, f"{label}=cluster-local")

    def bound() -> set[tuple[str, str]]:
        return {
            (parent["parentRef"].get("sectionName", ""), one["status"])
            for route in kedge.objects(HTTP_ROUTE)
            if route["metadata"]["name"].startswith(NAME)
            for parent in (route.get("status") or {}).get("parents") or ()
            for one in parent["conditions"]
            if one["type"] == "Accepted"
        }

    wait_for(lambda: bound() == {("local", "True")}, 60, lambda: str(bound()))
    kedge.kubectl("wait", "--for=condition=Ready", f"isvc/{NAME}", "--timeout=60s")
    kedge.kubectl("label", "isvc", NAME, f"{label}-")
    wait_for(lambda: bound() == {("", "True")}, 60, lambda: str(bound()))


def test_a_misspelt_field_is_refused_or_warned_about(kedge: RunningKedge, iris: Path) -> None:
    wrong = manifest("misspelt", iris)
    wrong["spec"]["predictor"]["model"]["storageUrl"] = wrong["spec"]["predictor"]["model"].pop(
        "storageUri"
    )
    told = kedge.kubectl("apply", "-f", "-", input=json.dumps(wrong), check=False)
    assert "spec.predictor.model.storageUrl" in told
    told = kedge.kubectl("apply", "--validate=warn", "-f", "-", input=json.dumps(wrong))
    assert "Warning:" in told
    assert "storageUri" in told
    kedge.kubectl("delete", "isvc", "misspelt")


def test_the_old_group_becomes_todays(kedge: RunningKedge, iris: Path) -> None:
    old = manifest("from-kfserving", iris)
    old["apiVersion"] = "serving.kubeflow.org/v1beta1"
    kedge.kubectl("apply", "-f", "-", input=json.dumps(old))
    kedge.until_ready("from-kfserving")
    kedge.kubectl("delete", "isvc", "from-kfserving")


def test_rollout_undo_of_a_plain_deployment(kedge: RunningKedge) -> None:
    sleep = "import time; time.sleep(10000)"
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "plain"},
        "spec": {
            "selector": {"matchLabels": {"app": "plain"}},
            "template": {
                "metadata": {"labels": {"app": "plain"}},
                "spec": {
                    "containers": [{"name": "main", "image": "kedge/python", "args": ["-c", sleep]}]
                },
            },
        },
    }
    kedge.kubectl("apply", "-f", "-", input=json.dumps(deployment))
    kedge.kubectl("rollout", "status", "deploy/plain", "--timeout=30s")
    kedge.kubectl("set", "env", "deploy/plain", "COLOUR=blue")
    kedge.kubectl("rollout", "status", "deploy/plain", "--timeout=30s")
    history = kedge.kubectl("rollout", "history", "deploy/plain")
    assert "2" in history
    kedge.kubectl("rollout", "undo", "deploy/plain")
    kedge.kubectl("rollout", "status", "deploy/plain", "--timeout=30s")
    containers = kedge.stored(DEPLOYMENT, "plain")["spec"]["template"]["spec"]["containers"]
    assert "env" not in containers[0]
    kedge.kubectl("delete", "deploy", "plain", "--wait")
