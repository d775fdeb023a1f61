"""The whole story on a Kubernetes with nodes: install, serve, scale, roll out, explain, remove.

`KEDGE_TEST_CLUSTER` names the kubeconfig of a cluster that has Kedge's images
(`tests/kubernetes/images.py` makes them) and nothing of Kedge. The same story is told on a control
plane of its own whose node is `kedge node`. The tests build on one another.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kubernetes.nodes import node_cluster
from tests.kubernetes.real import NEW, OLD, VALUES, RealCluster, kubelets
from tests.kubernetes.world import until

from kedge.lib.certificates import Pair, make_authority, make_server_certificate

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]
QUICK = {"autoscaling.knative.dev/window": "6s"}
RATE = 60.0
"""Requests a second."""


@contextmanager
def of_processes() -> Iterator[RealCluster]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets or os.geteuid() != 0:
        pytest.skip("KUBEBUILDER_ASSETS names no folder with Kubernetes' programs, or not to root")
    with (
        tempfile.TemporaryDirectory() as folder,
        node_cluster(Path(assets), Path(folder), f"story-{secrets.token_hex(2)}") as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module", params=[kubelets, of_processes], ids=["kubelet", "kedge-node"])
def real(request: pytest.FixtureRequest) -> Iterator[RealCluster]:
    """Kedge is not in it yet; what the tests leave is removed."""
    with request.param() as cluster:
        yield from tidied(cluster)


def tidied(cluster: RealCluster) -> Iterator[RealCluster]:
    cluster.kubectl("create", "namespace", cluster.namespace)
    cluster.kubectl("wait", "--for=create", "--timeout=30s", "serviceaccount/default",
                    "-n", cluster.namespace)  # fmt: skip
    cluster.prepare()
    try:
        yield cluster
    finally:
        cluster.kedge("uninstall", "--yes")
        cluster.kubectl("delete", "namespace", cluster.namespace)


@pytest.fixture(scope="module")
def before(real: RealCluster) -> set[str]:
    """Every object that was there before Kedge."""
    return real.everything()


@pytest.fixture(scope="module")
def installed(real: RealCluster, before: set[str]) -> RealCluster:
    """Kedge is in it."""
    begun = time.monotonic()
    done = real.kedge("install", "--timeout=240")
    print(done.stdout, f"kedge install: {time.monotonic() - begun:.1f} s", sep="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It was Ready, and answered through the gateway." in done.stdout
    real.find_gateway()
    return real


@pytest.fixture
def name(installed: RealCluster) -> Iterator[str]:
    """Of a service that is deleted at the end."""
    chosen = f"iris-{secrets.token_hex(2)}"
    yield chosen
    installed.kubectl("delete", "inferenceservice", chosen, "-n", installed.namespace,
                      "--ignore-not-found", "--wait=false")  # fmt: skip


def test_a_second_run_writes_nothing(installed: RealCluster) -> None:
    done = installed.kedge("install", "--no-verify")
    assert done.returncode == 0, done.stdout + done.stderr
    counted = next(line for line in done.stdout.splitlines() if "unchanged" in line)
    print(counted)
    assert {part.split()[1] for part in counted.split(", ")} == {"kept", "unchanged"}


def test_a_service_answers_and_its_difference_is_empty(installed: RealCluster, name: str) -> None:
    service = installed.iris(name)
    begun = time.monotonic()
    installed.apply(service)
    status = installed.await_ready(name)["status"]
    print(f"apply to Ready: {time.monotonic() - begun:.1f} s, {status['url']}")
    assert installed.ask(name)["answers"] == {OLD: 1}
    host = f"{name}.{installed.namespace}"
    assert installed.ask(name, base=installed.inside(name), host=host)["answers"] == {OLD: 1}
    diff = installed.try_kubectl(
        "diff", "-n", installed.namespace, "-f", "-", given=yaml.safe_dump(service)
    )
    assert (diff.returncode, diff.stdout) == (0, "")


def test_zero_and_back(installed: RealCluster, name: str) -> None:
    installed.apply(installed.iris(name, annotations=QUICK, minReplicas=0))
    installed.await_ready(name)
    for _ in range(2):
        begun = time.monotonic()
        until(lambda: not installed.running(name), "scaling to zero", 120)
        idle = time.monotonic() - begun
        answer = installed.ask(name)
        assert answer["answers"] == {OLD: 1}, answer
        print(f"zero after {idle:.1f} s; the request that woke it took {answer['slowest']} s")


def test_a_canary_gets_its_share_and_a_rollout_loses_nothing(
    installed: RealCluster, name: str
) -> None:
    """In the default mode: a revision beside another, then instead of it."""
    installed.apply(installed.iris(name))
    installed.await_ready(name)
    with installed.asked(name, seconds=30, rate=RATE) as result:
        installed.apply(installed.iris(name, "new", canaryTrafficPercent=20))
        installed.await_ready(name)
    _is_clean(result, OLD, NEW)
    share = installed.ask(name, seconds=10, rate=RATE)
    print(f"canary of 20 %: {share['answers']}")
    assert 0.1 < share["answers"][NEW] / share["requests"] < 0.3
    with installed.asked(name, seconds=20, rate=RATE) as result:
        installed.apply(installed.iris(name, "new"))
        installed.await_ready(name)
    _is_clean(result, OLD, NEW)
    assert set(installed.ask(name, seconds=2, rate=RATE)["answers"]) == {NEW}


def test_a_rolling_update_of_a_deployment_loses_nothing(installed: RealCluster, name: str) -> None:
    mode = {"serving.kserve.io/deploymentMode": "Standard"}
    installed.apply(installed.iris(name, annotations=mode, minReplicas=2))
    installed.await_ready(name)
    with installed.asked(name, seconds=45, rate=RATE) as result:
        installed.apply(installed.iris(name, "new", annotations=mode, minReplicas=2))
        installed.kubectl("rollout", "status", f"deployment/{name}-predictor", "--timeout=120s",
                          "-n", installed.namespace, seconds=150)  # fmt: skip
        installed.await_ready(name)
    _is_clean(result, OLD, NEW)
    assert set(installed.ask(name, seconds=2, rate=RATE)["answers"]) == {NEW}


def test_scaling_down_under_load_loses_nothing(installed: RealCluster, name: str) -> None:
    installed.apply(installed.iris(name, annotations=QUICK, minReplicas=5, maxReplicas=5))
    installed.await_ready(name)
    until(lambda: len(_ready(installed, name)) == 5, "five pods", 120)
    with installed.asked(name, seconds=45, rate=RATE) as result:
        begun = time.monotonic()
        installed.apply(installed.iris(name, annotations=QUICK, minReplicas=1, maxReplicas=5))
        until(lambda: len(installed.running(name)) == 1, "one pod", 120)
        print(f"5 to 1 within {time.monotonic() - begun:.1f} s")
    _is_clean(result, OLD)


def test_a_server_that_ends_at_once_loses_nothing(installed: RealCluster, name: str) -> None:
    """Only because its pod sleeps first."""
    installed.apply(installed.hasty(name, "a", 3))
    installed.await_ready(name)
    deployment = (f"deployment/{name}-predictor", "-n", installed.namespace)
    installed.kubectl("rollout", "status", *deployment)
    with installed.asked(name, seconds=40, rate=RATE) as result:
        installed.apply(installed.hasty(name, "b", 3))
        installed.kubectl("rollout", "status", *deployment, "--timeout=100s")
        installed.kubectl("scale", *deployment, "--replicas=1")
    _is_clean(result, '"a"', '"b"')


def test_replacing_kedges_own_pods_loses_nothing(installed: RealCluster, name: str) -> None:
    """As an upgrade does: first the gateway, then the controller, while one of two leads."""
    installed.apply(installed.iris(name))
    installed.await_ready(name)
    with installed.asked(name, seconds=60, rate=RATE) as result:
        for deployment in ("kedge-gateway", "kedge-controller"):
            begun = time.monotonic()
            place = ("-n", VALUES.namespace, f"deployment/{deployment}")
            installed.kubectl("rollout", "restart", *place)
            installed.kubectl("rollout", "status", *place, "--timeout=200s", seconds=220)
            print(f"{deployment} replaced within {time.monotonic() - begun:.1f} s")
    _is_clean(result, OLD)
    installed.apply(installed.iris(name, "new"))
    installed.await_ready(name)
    assert installed.ask(name)["answers"] == {NEW: 1}


def test_every_protocol_is_answered_through_a_forwarded_port(
    installed: RealCluster, name: str
) -> None:
    installed.apply(installed.iris(name))
    installed.await_ready(name)
    with installed.forwarded() as gateway:
        for protocol in ("v1", "v2", "grpc"):
            done = installed.kedge(
                "predict", name, "-n", installed.namespace, f"--gateway={gateway}",
                f"--protocol={protocol}", "--data", "[[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]",
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)
            found = said["predictions"] if protocol == "v1" else said["outputs"][0]["data"]
            assert found == json.loads(OLD), (protocol, said)
            print(f"{protocol}: {found}")


def test_https_and_a_renewed_certificate(installed: RealCluster, name: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = make_authority("story", now, timedelta(days=1))

    def issue() -> Pair:
        names = [f"*.{VALUES.ingress.domain}"]
        return make_server_certificate(authority, now, timedelta(days=1), names=names)

    trusted = authority.certificate
    installed.serve_https(issue())
    values = tmp_path / "values.yaml"
    values.write_text("gateway: {tlsSecret: wildcard}\n")
    done = installed.kedge("install", "--no-verify", f"--values={values}")
    assert done.returncode == 0, done.stdout + done.stderr
    installed.apply(installed.iris(name))
    installed.await_ready(name)
    first = until(lambda: _https(installed, name, trusted), "an answer by HTTPS", 60)
    with installed.asked(name, seconds=20, rate=RATE, authority=trusted) as result:
        installed.serve_https(issue())
        until(lambda: _https(installed, name, trusted) != first, "the new certificate", 60)
    _is_clean(result, OLD)
    done = installed.kedge("install", "--no-verify")
    assert done.returncode == 0, done.stdout + done.stderr


def _https(real: RealCluster, name: str, trusted: bytes) -> str:
    """The number of the certificate in use; empty while nothing answers."""
    try:
        answer = real.ask(name, authority=trusted, patience=5)
    except AssertionError:
        return ""
    return str(answer["certificate"]) if answer["answers"] == {OLD: 1} else ""


def test_a_transformer_and_its_predictor_are_woken_by_one_request(
    installed: RealCluster, name: str
) -> None:
    """The transformer finds its predictor by name, as callers in the cluster do."""
    _needs(installed, "service", "kube-dns", "kube-system")
    code = Path(__file__).parents[2] / "examples" / "transformer" / "transformer.py"
    container = {
        "name": "kserve-container",
        "image": VALUES.image("sklearnserver"),
        "command": ["python", "-c", code.read_text()],
    }
    service = installed.iris(name, annotations=QUICK, minReplicas=0)
    service["spec"]["transformer"] = {"minReplicas": 0, "containers": [container]}
    installed.apply(service)
    status = installed.await_ready(name)["status"]
    until(lambda: not installed.running(name), "scaling to zero", 120)
    body = {"instances": ["6.8 x 2.8, 4.8 x 1.4"]}
    path = f"/v1/models/{name}:predict"
    for base in ("", status["address"]["url"]):
        answer = installed.ask(name, base=base, path=path, body=body)
        print(f"by {base or 'the gateway'}: {answer['answers']} after {answer['slowest']} s")
        assert answer["answers"] == {'["versicolor"]': 1}, answer


def test_processor_time_scales_a_deployment(installed: RealCluster, name: str) -> None:
    _needs(installed, "apiservice", "v1beta1.metrics.k8s.io")
    mode = {"serving.kserve.io/deploymentMode": "Standard"}
    _scales_with_its_load(installed, name, mode, scaleMetric="cpu", scaleTarget=20)


def test_keda_scales_a_deployment(installed: RealCluster, name: str) -> None:
    _needs(installed, "crd", "scaledobjects.keda.sh")
    mode = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "keda",
    }
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 20}}
    metrics = {"metrics": [{"type": "Resource", "resource": resource}]}
    _scales_with_its_load(installed, name, mode, autoScaling=metrics)
    found = installed.find_all("scaledobjects.keda.sh")[0]["status"]["conditions"]
    assert {one["type"]: one["status"] for one in found}["Ready"] == "True"


def _scales_with_its_load(
    installed: RealCluster, name: str, mode: dict[str, str], **scaling: Any
) -> None:
    service = installed.iris(name, annotations=mode, minReplicas=1, maxReplicas=3, **scaling)
    service["spec"]["predictor"]["model"]["resources"] = {"requests": {"cpu": "100m"}}
    installed.apply(service)
    installed.await_ready(name)
    with installed.asked(name, seconds=60, rate=3 * RATE) as result:
        begun = time.monotonic()
        until(lambda: len(_ready(installed, name)) > 1, "more pods", 120)
        print(f"more than one pod after {time.monotonic() - begun:.1f} s")
    _is_clean(result, OLD)
    with installed.asked(name, seconds=30, rate=1) as result:
        until(lambda: len(installed.running(name)) == 1, "one pod", 300)
    _is_clean(result, OLD)


def test_draining_a_node_loses_nothing(installed: RealCluster, name: str) -> None:
    """The node of the service's only pod, and with it whatever of Kedge runs there."""
    nodes = [one["metadata"]["name"] for one in installed.find_all("nodes")]
    if len(nodes) < 2:
        pytest.skip("the cluster has one node")
    service = installed.iris(name)
    service["spec"]["predictor"]["model"]["resources"] = {"requests": {"cpu": "100m"}}
    installed.apply(service)
    installed.await_ready(name)
    node = installed.running(name)[0]["spec"]["nodeName"]
    try:
        with installed.asked(name, seconds=60, rate=RATE) as result:
            begun = time.monotonic()
            installed.kubectl("drain", node, "--delete-emptydir-data", "--ignore-daemonsets",
                              "--pod-selector=app notin (client,models)", "--timeout=150s",
                              seconds=170)  # fmt: skip
            print(f"{node} drained within {time.monotonic() - begun:.1f} s")
        _is_clean(result, OLD)
        assert node not in {pod["spec"].get("nodeName") for pod in installed.running(name)}
    finally:
        installed.kubectl("uncordon", node)


def _needs(real: RealCluster, kind: str, name: str, namespace: str = "") -> None:
    place = ("-n", namespace) if namespace else ()
    if real.try_kubectl("get", kind, name, *place).returncode:
        pytest.skip(f"the cluster has no {kind} {name}")


def test_a_broken_service_says_why(installed: RealCluster, name: str) -> None:
    installed.apply(installed.iris(name, "absent"))
    told = until(lambda: _why(installed, name, "HTTP resource not found"), "the cause", 120)
    print(told)
    assert "Fix: " in told
    assert "storage-initializer" in told


def test_nothing_is_left(installed: RealCluster, before: set[str]) -> None:
    done = installed.kedge("uninstall", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.splitlines()[-1])
    until(lambda: not _own(installed.everything() - before), "the end of what Kedge made", 60)
    assert installed.get("namespace", VALUES.namespace) is None


def _own(found: set[str]) -> set[str]:
    """Without what others of the cluster made meanwhile."""
    return {one for one in found if " kube-system/" not in one and " keda/" not in one}


def _ready(real: RealCluster, name: str) -> list[str]:
    return [
        pod["metadata"]["name"]
        for pod in real.running(name)
        for condition in pod["status"].get("conditions") or ()
        if (condition["type"], condition["status"]) == ("Ready", "True")
    ]


def _why(real: RealCluster, name: str, cause: str) -> str:
    told = real.kedge("why", name, "-n", real.namespace).stdout
    return told if cause in told else ""


def _is_clean(result: dict[str, object], *expected: str) -> None:
    """Every request was answered, by a model that was asked for."""
    print(f"under load: {result}")
    assert result["failures"] == []
    answers = result["answers"]
    assert isinstance(answers, dict)
    assert set(answers) <= set(expected)
