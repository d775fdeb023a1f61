"""From a model to its service: names, YAML, scripts, and the curl command."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from kedge.client.errors import ModelError
from kedge.client.inference import Target
from kedge.client.kubeconfig import Access
from kedge.client.manifests import parse_manifests
from kedge.client.run import curl_command, prepare, service_name


@pytest.fixture
def access(tmp_path: Path) -> Access:
    home = tmp_path / "home"
    home.mkdir()
    (home / "kedge.pid").write_text(str(os.getpid()))
    return Access("https://127.0.0.1:1", str(home / "kubeconfig"), local=True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("RandomForestClassifier", "random-forest-classifier"),
        ("my_model.v2", "my-model-v2"),
        ("2024 churn", "model-2024-churn"),
        ("--", "model"),
        ("a" * 60, "a" * 40),
    ],
)
def test_names_are_valid(text: str, name: str) -> None:
    assert service_name(text) == name
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)


def test_a_file_becomes_a_manifest(tmp_path: Path, access: Access) -> None:
    folder = tmp_path / "iris"
    folder.mkdir()
    (folder / "model.ubj").write_bytes(b"{")
    made = prepare(folder / "model.ubj", access=access)
    assert made.manifest["metadata"] == {"name": "iris", "namespace": "default"}
    assert made.manifest["spec"]["predictor"]["model"] == {
        "modelFormat": {"name": "xgboost"},
        "storageUri": f"file://{folder}",
    }
    assert [m.object for m in parse_manifests(made.text, "shown")] == [made.manifest]
    (folder / "model.ubj").rename(folder / "ChurnModel.ubj")
    named = prepare(str(folder), namespace="models", access=access).manifest["metadata"]
    assert named == {"name": "churn-model", "namespace": "models"}


SCRIPT = """
class Booster:
    def save_model(self, path):
        with open(path, "w") as file:
            file.write({content!r})
    def predict(self, rows):
        return rows
Booster.__module__ = "xgboost.core"
{name} = Booster()
"""


def test_a_script_is_run_for_its_model_and_saved_by_content(tmp_path: Path, access: Access) -> None:
    script = tmp_path / "churn.py"

    def uri(content: str, name: str = "model") -> str:
        script.write_text(SCRIPT.format(content=content, name=name))
        found: str = prepare(script, access=access).manifest["spec"]["predictor"]["model"][
            "storageUri"
        ]
        return found

    first, second, again = uri("1"), uri("2"), uri("1", "anything")
    assert first == again != second
    folder = Path(first.removeprefix("file://"))
    assert folder.parent == tmp_path / "home" / "models" / "churn"
    assert (folder / "model.ubj").read_text() == "1"
    assert sorted(p.name for p in folder.parent.iterdir()) == sorted(
        Path(one).name for one in (first, second)
    )


def test_a_script_without_a_model_is_named(tmp_path: Path, access: Access) -> None:
    script = tmp_path / "none.py"
    with pytest.raises(ModelError, match="does not exist"):
        prepare(script, access=access)
    script.write_text("x = 3")
    with pytest.raises(ModelError, match="defines no objects"):
        prepare(script, access=access)
    script.write_text("class M:\n  def predict(self, r): ...\na, b = M(), M()")
    with pytest.raises(ModelError, match=r"several \(a, b\)"):
        prepare(script, access=access)


def test_a_cluster_elsewhere_cannot_read_this_disk(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pods cannot read it\. Fix: Upload"):
        prepare(tmp_path, access=Access("https://cluster.example:6443", "config"))


def test_the_curl_command_carries_a_valid_row() -> None:
    base = "http://127.0.0.1:8080/serving/default/iris"
    target = Target(base, "127.0.0.1:8080", "iris-default.localhost", "default/iris")
    told = curl_command(target, [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}])
    assert told.startswith(f"curl {base}/v2/models/iris/infer \\\n")
    body = json.loads(told.partition("-d '")[2].removesuffix("'"))
    assert body["inputs"][0]["data"] == [0.0, 0.0]
    assert "Host" not in told
    elsewhere = Target("http://gw:80", "gw:80", "iris.example", "default/iris")
    quoted = curl_command(elsewhere, [{"name": "it's", "datatype": "BYTES", "shape": [-1]}])
    assert "-H 'Host: iris.example'" in quoted
    assert "it'\\''s" in quoted
    assert curl_command(target, []) == ""
