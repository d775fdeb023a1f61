"""Every fault is named within seconds with one fix; the fix, carried out, makes the service Ready.

Each case breaks one thing. The test reads the status, the event and `kedge why` as a user would,
then does literally what the fix says.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.e2e.running import RunningKedge, condition, crowded_seconds, wait_for
from tests.ports import free_port

from kedge.api.scheme import EVENT, POD

SECONDS = 5.0
"""Within this time status, event and `kedge why` name the fault."""


def service(
    name: str, model: Path | str, format: str = "sklearn", **predictor: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": format},
                    "storageUri": str(model) if "://" in str(model) else f"file://{model}",
                },
                **predictor,
            }
        },
    }


def custom(name: str, image: str, *argv: str, **container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "predictor": {
                "containers": [
                    {
                        "name": "kserve-container",
                        "image": image,
                        "args": list(argv),
                        **container,
                    }
                ]
            }
        },
    }


class Case:
    """One broken service: reads what the user is told."""

    def __init__(self, kedge: RunningKedge, name: str) -> None:
        self.kedge, self.name = kedge, name
        self.applied = self.crowded = 0.0

    def apply(self, manifest: dict[str, Any]) -> None:
        self.applied, self.crowded = time.monotonic(), crowded_seconds()
        self.kedge.apply(manifest)

    def told(self, *words: str, seconds: float = SECONDS) -> str:
        """The Ready condition's message, once it and `why` and an event hold all the words."""

        def message() -> str:
            ready = condition(self.kedge.service(self.name))
            text = f"{ready.get('reason', '')} {ready.get('message', '')}"
            return text if ready.get("status") == "False" and all(w in text for w in words) else ""

        text = wait_for(
            message,
            60,
            lambda: (
                f"Ready never said {words}: {condition(self.kedge.service(self.name))}"
                f"\n{self.kedge.kedge('why', self.name, check=False)}"
            ),
        )
        told = time.monotonic() - self.applied
        # What it takes on a machine that others use too is no property of ours.
        assert told < seconds + 2 + crowded_seconds() - self.crowded
        why = self.kedge.kedge("why", self.name, check=False)
        assert all(word in why for word in words), why
        assert "Fix:" in why, why
        events = [e for e in self.kedge.objects(EVENT) if self.name in str(e)]
        texts = [event["message"] for event in events]
        assert any(all(word in t for word in words) for t in texts), texts
        print(f"\n[{self.name}] after {told:.1f} s: {text}\n{why}")
        return text

    def ready(self, seconds: float = 30.0) -> None:
        self.kedge.until_ready(self.name, seconds=seconds)
        self.kedge.delete(self.name)


@pytest.fixture
def case(kedge: RunningKedge, request: pytest.FixtureRequest) -> Case:
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    return Case(kedge, name)


def test_missing_folder(case: Case, iris: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    case.apply(service(case.name, folder))
    case.told(str(folder), "Fix:")
    shutil.copytree(iris, folder)
    case.ready()


def test_empty_folder(case: Case, iris: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    case.apply(service(case.name, folder))
    case.told("empty", ".joblib", "Fix:")
    shutil.copy(iris / "model.joblib", folder)
    case.ready()


def test_two_model_files(case: Case, iris: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    shutil.copytree(iris, folder)
    shutil.copy(iris / "model.joblib", folder / "old.pkl")
    case.apply(service(case.name, folder))
    case.told("model.joblib", "old.pkl", "Fix:")
    (folder / "old.pkl").unlink()
    case.ready()


def test_corrupt_pickle(case: Case, iris: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corrupt"
    folder.mkdir()
    whole = (iris / "model.joblib").read_bytes()
    (folder / "model.joblib").write_bytes(whole[: len(whole) // 2])
    case.apply(service(case.name, folder))
    case.told("model.joblib", "Fix:")
    (folder / "model.joblib").write_bytes(whole)
    case.ready()


def test_other_framework_version(case: Case, iris: Path, tmp_path: Path) -> None:
    folder = tmp_path / "version"
    folder.mkdir()
    # The model says it was trained by 9.9.9, and needs a class that the installed version lacks.
    code = textwrap.dedent(
        f"""
        import joblib, sklearn, sys, types
        from sklearn.svm import SVC
        class Future(SVC): pass
        module = types.ModuleType("sklearn.svm._future")
        Future.__module__, Future.__qualname__ = "sklearn.svm._future", "Future"
        module.Future = Future
        sys.modules["sklearn.svm._future"] = module
        sklearn.__version__ = "9.9.9"
        import sklearn.base
        sklearn.base.__version__ = "9.9.9"
        model = Future().fit([[0, 0, 0, 0], [1, 1, 1, 1]], [0, 1])
        joblib.dump(model, {str(folder / "model.joblib")!r})
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    case.apply(service(case.name, folder))
    case.told("9.9.9", "Fix:")
    shutil.copy(iris / "model.joblib", folder)
    case.ready()


def test_unknown_runtime(case: Case, iris: Path) -> None:
    manifest = service(case.name, iris)
    manifest["spec"]["predictor"]["model"]["runtime"] = "kedge-sklernserver"
    case.apply(manifest)
    case.told("kedge-sklernserver", "kedge-sklearnserver", "Fix:")
    manifest["spec"]["predictor"]["model"]["runtime"] = "kedge-sklearnserver"
    case.apply(manifest)
    case.ready()


def test_unknown_format(case: Case, iris: Path) -> None:
    case.apply(service(case.name, iris, "sklaern"))
    case.told("sklaern", "sklearn", "Fix:")
    case.apply(service(case.name, iris, "sklearn"))
    case.ready()


SERVE = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    do_POST = do_GET
http.server.HTTPServer((os.environ["KEDGE_POD_IP"], 8080), Handler).serve_forever()
"""


def test_container_exits(case: Case) -> None:
    code = "import sys; print('cannot find the colour blue'); sys.exit(7)"
    case.apply(custom(case.name, "kedge/python", "-c", code))
    case.told("kserve-container", "7", "cannot find the colour blue", "Fix:")
    case.apply(custom(case.name, "kedge/python", "-c", SERVE))
    case.ready()


def test_container_hangs(case: Case) -> None:
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    code = "import time; print('waiting for Godot', flush=True); time.sleep(1000)"
    case.apply(custom(case.name, "kedge/python", "-c", code, readinessProbe=probe))
    case.told("kserve-container", "8080", "Fix:")
    case.apply(custom(case.name, "kedge/python", "-c", SERVE, readinessProbe=probe))
    case.ready()


def test_port_in_use(case: Case) -> None:
    port = free_port()
    code = textwrap.dedent(
        f"""
        import os, socket
        first, second = socket.socket(), socket.socket()
        first.bind((os.environ["KEDGE_POD_IP"], {port})); first.listen()
        second.bind((os.environ["KEDGE_POD_IP"], {port}))
        """
    )
    case.apply(custom(case.name, "kedge/python", "-c", code))
    case.told("ddress already in use", "Fix:")
    case.apply(custom(case.name, "kedge/python", "-c", SERVE))
    case.ready()


def test_unmapped_image(case: Case) -> None:
    case.apply(custom(case.name, "acme/churn:3", "-c", SERVE))
    case.told("acme/churn:3", "images.yaml", "Fix:")
    images = case.kedge.data_dir / "images.yaml"
    images.write_text("images:\n- pattern: acme/churn*\n  command: [python]\n")
    case.ready()


def test_memory_without_end(case: Case) -> None:
    code = "held = []\nwhile True: held.append(bytearray(b'x') * 10_000_000)"
    limited = {"resources": {"limits": {"memory": "200Mi"}, "requests": {"memory": "50Mi"}}}
    case.apply(custom(case.name, "kedge/python", "-c", code, **limited))
    case.told("OOMKilled", "200Mi", "Fix:")
    case.apply(custom(case.name, "kedge/python", "-c", SERVE, **limited))
    case.ready()


def test_full_disk(case: Case, iris: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=True)
    archive = tmp_path / "files" / "model.joblib"
    archive.parent.mkdir()
    whole = (iris / "model.joblib").read_bytes()
    archive.write_bytes(whole + b"\0" * 30_000_000)
    files = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(QuietFiles, directory=str(archive.parent))
    )
    Thread(target=files.serve_forever, daemon=True).start()
    kedge = RunningKedge(small / "kedge")
    try:
        kedge.start()
        full = Case(kedge, case.name)
        kedge.apply(service("neighbour", iris))
        other = Case(kedge, "neighbour")
        kedge.until_ready("neighbour")
        full.apply(service(case.name, f"http://127.0.0.1:{files.server_address[1]}/model.joblib"))
        full.told("full", "free", "Fix:", seconds=20)
        path = "/serving/default/neighbour/v1/models/neighbour:predict"
        assert kedge.post(path, {"instances": [[6.8, 2.8, 4.8, 1.4]]})[0] == 200
        archive.write_bytes(whole)
        full.ready(60)
        other.ready()
    finally:
        kedge.stop()
        files.shutdown()
        files.server_close()
        subprocess.run(["umount", "-l", str(small)], check=True)


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def test_wrong_type_deep_inside(case: Case, iris: Path) -> None:
    manifest = service(case.name, iris)
    manifest["spec"]["predictor"]["model"]["resources"] = {"limits": ["1", "2Gi"]}
    told = case.kedge.kubectl("apply", "-f", "-", input=json.dumps(manifest), check=False)
    assert "spec.predictor.model.resources.limits" in told
    assert not case.kedge.service(case.name)


def test_bad_yaml(case: Case, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("apiVersion: serving.kserve.io/v1beta1\nkind: [InferenceService\n")
    told = case.kedge.kedge("apply", "-f", str(broken), check=False)
    assert str(broken) in told
    assert "line" in told
    assert "Fix:" in told


def test_a_hungry_model_leaves_others_alive(case: Case, iris: Path) -> None:
    neighbour = f"{case.name[:20]}-neighbour"
    case.kedge.apply(service(neighbour, iris))
    burn = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    case.kedge.until_ready(neighbour)
    path = f"/serving/default/{neighbour}/v1/models/{neighbour}:predict"
    body = {"instances": [[6.8, 2.8, 4.8, 1.4]]}

    def p99() -> float:
        times = []
        for _ in range(200):
            began = time.perf_counter()
            assert case.kedge.post(path, body)[0] == 200
            times.append(time.perf_counter() - began)
        return sorted(times)[197]

    alone = p99()
    case.apply(custom(case.name, "kedge/python", "-c", burn))
    burning = f"serving.kserve.io/inferenceservice={case.name}"
    wait_for(
        lambda: [pod["status"]["phase"] for pod in case.kedge.objects(POD, burning)] == ["Running"]
    )
    beside = p99()
    print(f"\np99 alone {alone * 1e3:.1f} ms, beside a hungry model {beside * 1e3:.1f} ms")
    # Where the machine has others to serve too, both are slow.
    assert beside < max(1.0, 20 * alone)
    case.kedge.delete(case.name, neighbour)
