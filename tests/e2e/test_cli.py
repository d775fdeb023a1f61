"""The command line against a running Kedge: a session as a person would have it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.running import RunningKedge, processes_under, wait_for
from tests.ports import free_port

ROWS = "[[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]"


def manifest(name: str, model: Path, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, **metadata},
        "spec": {
            "predictor": {
                "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{model}"}
            }
        },
    }


class Shell:
    """`kedge` as a script runs it: exit code, output and errors apart."""

    def __init__(self, kedge: RunningKedge) -> None:
        self._kedge = kedge

    def __call__(self, *arguments: str, code: int = 0, input: str | None = None) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "kedge", *arguments],
            env=self._kedge.environment,
            input=input,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout, done.stderr


@pytest.fixture(scope="module")
def shell(kedge: RunningKedge) -> Shell:
    return Shell(kedge)


@pytest.fixture(scope="module")
def iris_service(kedge: RunningKedge, shell: Shell, iris: Path) -> Iterator[str]:
    """A service that the tests here share."""
    name = "cli-iris"
    out, err = shell("apply", "-f", "-", "--wait", input=json.dumps(manifest(name, iris)))
    assert f"inferenceservices.serving.kserve.io/{name} created" in out
    assert f"{name} is Ready: http://127.0.0.1:{kedge.port}/serving/default/{name}" in out
    assert f"{name}: waiting" in err
    yield name
    shell("delete", name)


def test_apply_says_what_it_did(shell: Shell, iris_service: str, iris: Path) -> None:
    text = json.dumps(manifest(iris_service, iris))
    assert f"{iris_service} unchanged" in shell("apply", "-f", "-", input=text)[0]
    changed = json.dumps(manifest(iris_service, iris, labels={"team": "cli"}))
    assert f"{iris_service} configured" in shell("apply", "-f", "-", input=changed)[0]
    told = shell("apply", "-f", "-", "--dry-run", input=json.dumps(manifest("dry", iris)))[0]
    assert "dry created (dry run)" in told
    shell("get", "dry", code=3)


def test_a_refused_manifest_is_named_with_its_place(
    shell: Shell, iris: Path, tmp_path: Path
) -> None:
    broken = manifest("broken", iris)
    broken["spec"]["predictor"]["minReplicas"] = -1
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(broken))
    (tmp_path / "other.yaml").write_text("apiVersion: acme.io/v1\nkind: Nothing\n")
    _, err = shell("apply", "-f", str(tmp_path), code=1)
    assert f"{tmp_path}/broken.yaml:1" in err
    assert f"{tmp_path}/other.yaml:1: the API serves no kind `Nothing`" in err


def test_get_in_every_form(shell: Shell, kedge: RunningKedge, iris_service: str) -> None:
    out, _ = shell("get")
    line = next(line for line in out.splitlines() if line.startswith(iris_service))
    assert out.splitlines()[0].split() == ["NAME", "READY", "URL", "TRAFFIC", "AGE"]
    assert line.split()[1:3] == [
        "True",
        f"http://127.0.0.1:{kedge.port}/serving/default/{iris_service}",
    ]
    assert yaml.safe_load(shell("get", iris_service, "-o", "yaml")[0])["kind"] == "InferenceService"
    listed = json.loads(shell("get", "isvc", "-o", "json")[0])
    assert iris_service in [item["metadata"]["name"] for item in listed["items"]]
    assert shell("get", iris_service, "-o", "name")[0] == (
        f"inferenceservices.serving.kserve.io/{iris_service}\n"
    )
    assert iris_service in shell("get", "pods")[0]
    assert "NODE" in shell("get", "pods", "-o", "wide")[0]
    assert "NAMESPACE" in shell("get", "deploy", "-A")[0]
    out, err = shell("get", "pods", "-n", "nowhere")
    assert (out, err) == ("", "No pods found in namespace nowhere.\n")
    assert '"nobody" not found' in shell("get", "nobody", code=3)[1]


def test_get_watches(kedge: RunningKedge, shell: Shell, iris_service: str, iris: Path) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "kedge", "get", "-w"],
        env=kedge.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    seen: list[str] = []
    while not any(line.startswith(iris_service) for line in seen):
        seen.append(watching.stdout.readline())
    shell("apply", "-f", "-", input=json.dumps(manifest("cli-watched", iris)))
    while not any(line.split()[:2] == ["cli-watched", "True"] for line in seen):
        line = watching.stdout.readline()
        assert line, seen
        seen.append(line)
    watching.terminate()
    watching.communicate(timeout=10)
    shell("delete", "isvc", "cli-watched")


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_predict_over_every_protocol(
    shell: Shell, iris_service: str, protocol: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text(ROWS)
    data = f"@{tmp_path / 'rows.json'}"
    answer = json.loads(shell("predict", iris_service, "-d", data, "--protocol", protocol)[0])
    told = answer["predictions"] if protocol == "v1" else answer["outputs"][0]["data"]
    assert told == [1, 1]
    assert shell("predict", iris_service, "-d", "-", "--protocol", protocol, input=ROWS)[0]


def test_a_prediction_that_the_model_refuses(shell: Shell, iris_service: str) -> None:
    out, err = shell("predict", iris_service, "-d", "[[1, 2]]", code=1)
    assert out == ""
    assert "answered 4" in err
    shell("predict", "nobody", "-d", ROWS, code=3)


def test_the_host_form_works_too(shell: Shell, kedge: RunningKedge, iris_service: str) -> None:
    gateway = f"127.0.0.1:{kedge.port}"
    assert shell("predict", iris_service, "-d", ROWS, "--gateway", gateway)[0]


def test_why_of_a_ready_and_of_a_failing_service(
    shell: Shell, iris_service: str, tmp_path: Path
) -> None:
    assert f"{iris_service} is Ready and answers at http://" in shell("why", iris_service)[0]
    (tmp_path / "model.joblib").write_bytes(b"no pickle")
    failing = json.dumps(manifest("cli-failing", tmp_path))
    _, err = shell("apply", "-f", "-", "--wait", code=1, input=failing)
    assert "cli-failing failed" in err
    told = shell("why", "cli-failing", code=1)[0]
    assert "Fix: " in told
    assert "container kserve-container" in told
    document = json.loads(shell("why", "cli-failing", "-o", "json", code=1)[0])
    assert document["ready"] is False
    assert document["fix"]
    shell("why", "nobody", code=3)
    shell("delete", "cli-failing")


def test_logs(shell: Shell, kedge: RunningKedge, iris_service: str) -> None:
    pod = json.loads(shell("get", "pods", "-o", "json")[0])["items"]
    names = [p["metadata"]["name"] for p in pod if iris_service in p["metadata"]["name"]]
    assert shell("logs", iris_service)[0]
    assert shell("logs", names[0], "--tail", "1")[0].count("\n") == 1
    shell("logs", "nobody", code=3)
    following = subprocess.Popen(
        [sys.executable, "-m", "kedge", "logs", iris_service, "-f"],
        env=kedge.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    assert following.stdout.readline()
    following.terminate()
    following.communicate(timeout=10)


def test_rollout_restart_makes_new_pods(shell: Shell, iris_service: str) -> None:
    def pods() -> set[str]:
        items = json.loads(shell("get", "pods", "-o", "json")[0])["items"]
        return {p["metadata"]["uid"] for p in items if iris_service in p["metadata"]["name"]}

    before = pods()
    assert "restarted" in shell("rollout", "restart", iris_service, "--wait")[0]
    assert "is Ready" in shell("rollout", "status", iris_service)[0]
    assert pods() - before


def test_export_applies_elsewhere(shell: Shell, iris_service: str) -> None:
    out, err = shell("export")
    objects = [obj for obj in yaml.safe_load_all(out) if obj["metadata"]["name"] == iris_service]
    assert len(objects) == 1
    assert "status" not in objects[0]
    assert set(objects[0]["metadata"]) <= {"name", "namespace", "labels", "annotations"}
    assert f"{iris_service} reads file://" in err
    kinds = {obj["kind"] for obj in yaml.safe_load_all(out)}
    assert "ClusterServingRuntime" not in kinds
    shell("apply", "-f", "-", "--dry-run", input=out)


def test_render_is_offline(shell: Shell, iris: Path) -> None:
    out, _ = shell("render", "-f", "-", input=json.dumps(manifest("rendered", iris)))
    kinds = {obj["kind"] for obj in yaml.safe_load_all(out)}
    assert {"Deployment", "Service", "HTTPRoute"} <= kinds


def test_run_serves_a_file_and_prints_a_command_that_works(
    shell: Shell, kedge: RunningKedge, iris: Path
) -> None:
    out, _ = shell("run", str(iris / "model.joblib"), "--name", "cli-run")
    assert "kind: InferenceService" in out
    assert "name: sklearn" in out
    command = out[out.index("curl ") :].strip()
    answered = subprocess.run(["sh", "-c", command + " -s"], capture_output=True, text=True)
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["outputs"][0]["shape"] == [1]
    shell("delete", "cli-run")


SCRIPT = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
X, y = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=500).fit(X, y)
"""


def test_run_serves_what_a_script_defines(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "flowers.py").write_text(SCRIPT)
    out, _ = shell("run", str(tmp_path / "flowers.py"))
    assert "flowers is Ready" in out
    assert json.loads(shell("predict", "flowers", "-d", ROWS)[0])["predictions"] == [1, 1]
    shell("delete", "flowers")


def test_kedge_run_in_a_notebook(kedge: RunningKedge, shell: Shell) -> None:
    script = (
        "import asyncio, kedge\n"
        "from sklearn.svm import SVC\n"
        "from sklearn.datasets import load_iris\n"
        "X, y = load_iris(return_X_y=True)\n"
        "async def cell():\n"  # a notebook's cell runs inside a loop
        "    running = kedge.run(SVC().fit(X, y), 'notebook', show=None)\n"
        f"    print(running.predict({ROWS})['predictions'])\n"
        f"    print(running.predict({ROWS}, 'grpc')['model_name'])\n"
        "    running.delete()\n"
        "asyncio.run(cell())\n"
    )
    out = kedge.run(sys.executable, "-c", script)
    assert out.split() == ["[1,", "1]", "notebook"]


def test_status(shell: Shell, kedge: RunningKedge, iris_service: str) -> None:
    out, _ = shell("status")
    assert f"Kedge on {kedge.data_dir} is running" in out
    assert f"http://127.0.0.1:{kedge.port} answers" in out
    found = json.loads(shell("status", "-o", "json")[0])
    assert found["ready"] is True
    assert found["services"]["ready"] >= 1


def test_waiting_ends_with_124(shell: Shell, iris: Path) -> None:
    slow = manifest("cli-slow", iris)
    slow["spec"]["predictor"]["model"]["readinessProbe"] = {
        "exec": {"command": ["false"]},
    }
    told = shell("apply", "-f", "-", "--wait", "--timeout", "2", code=124, input=json.dumps(slow))
    assert "not Ready after 2 s" in told[1]
    shell("delete", "cli-slow")


def test_up_detached_and_down(tmp_path: Path) -> None:
    data_dir = tmp_path / "kedge"
    env = {**os.environ, "KEDGE_HOME": str(data_dir)}
    env.pop("KUBECONFIG", None)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kedge", *arguments], env=env, capture_output=True, text=True
        )

    ports = ["--port", str(free_port()), "--api-port", str(free_port())]
    began = time.monotonic()
    up = call("up", "--detach", *ports)
    assert up.returncode == 0, up.stderr
    assert "Kedge is ready after" in up.stdout
    assert f"export KUBECONFIG={data_dir}/kubeconfig" in up.stdout
    print(f"\nkedge up --detach: {time.monotonic() - began:.2f} s")
    assert call("status").returncode == 0
    assert call("get").returncode == 0  # finds the running local Kedge by itself
    again = call("up", "--detach", *ports)
    assert again.returncode == 1
    assert "already runs" in again.stderr
    assert (data_dir / "kubeconfig").stat().st_mode & 0o777 == 0o600
    assert call("down").returncode == 0
    assert call("down").returncode == 4
    assert call("get").returncode == 4
    wait_for(lambda: not processes_under(data_dir), 10)
