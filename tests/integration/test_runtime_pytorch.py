"""PyTorch: TorchScript, exported programs, a state dict with its class, files that are refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.runtime_process import (
    everywhere,
    failed_start,
    infer_error,
    metadata,
    predictions,
    serving,
)
from tests.integration.server_process import Served

from kedge.runtimes.torchfile import read_facts
from kedge.server.errors import ModelLoadFailed

torch = pytest.importorskip("torch", reason="needs PyTorch, which the lock file leaves out")

SOURCE = """
import torch

class Sum(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, left, right):
        return self.layer(left + right)
"""
TWO_OUTPUTS = """
import torch

class Scores(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, rows):
        scores = self.layer(rows)
        return scores, scores.argmax(dim=1)
"""
EACH = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def network(source: str = SOURCE, name: str = "Sum") -> Any:
    scope: dict[str, Any] = {}
    exec(source, scope)  # what model.py holds
    torch.manual_seed(7)
    return scope[name]().eval()


def expected(model: Any, *arrays: Any) -> Any:
    with torch.inference_mode():
        return model(*(torch.from_numpy(array) for array in arrays))


def write_kind(kind: str, folder: Path) -> Any:
    model = network()
    if kind == "script":
        example = (torch.zeros(1, 3), torch.zeros(1, 3))
        torch.jit.save(torch.jit.trace(model, example), str(folder / "model.pt"))
    elif kind == "export":
        rows = torch.export.Dim("rows")
        example = (torch.zeros(2, 3), torch.zeros(2, 3))
        shapes = {"left": {0: rows}, "right": {0: rows}}
        torch.export.save(
            torch.export.export(model, example, dynamic_shapes=shapes), str(folder / "model.pt2")
        )
    else:
        torch.save(model.state_dict(), folder / "model.pt")
        (folder / "model.py").write_text(SOURCE)
    return model


@pytest.fixture(scope="module", params=["script", "export", "state"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Any, str]]:
    folder = tmp_path_factory.mktemp(request.param)
    model = write_kind(request.param, folder)
    with serving("pytorch", folder, tmp_path_factory.mktemp("log") / "log") as one:
        yield one, model, request.param


def test_every_kind_answers_every_protocol(served: tuple[Served, Any, str]) -> None:
    one, model, kind = served
    inputs, outputs = metadata(one)
    shape = [-1, 3] if kind == "export" else []
    assert inputs == {"left": ("FP32", shape), "right": ("FP32", shape)}
    assert outputs == ({"output-0": ("FP32", [-1, 2])} if kind == "export" else {})
    wanted = expected(model, EACH, EACH).numpy()
    answer = everywhere(one, {"right": EACH, "left": EACH})["output-0"]
    np.testing.assert_allclose(answer, wanted, rtol=1e-5)
    rows = predictions(one, [{"left": [1, 2, 3], "right": [1, 2, 3]}])
    np.testing.assert_allclose(rows, wanted[:1], rtol=1e-5)
    assert one.get("/v2/models/m")[1]["properties"]["kind"] == kind


def test_inputs_that_do_not_fit(served: tuple[Served, Any, str]) -> None:
    one, _, _ = served
    assert infer_error(one, {"left": EACH})[0] == 400
    assert infer_error(one, {"left": EACH[:, :2], "right": EACH[:, :2]})[0] == 400
    words = np.array(["a", "b"], dtype=object)
    assert infer_error(one, {"left": words, "right": words})[0] == 400


def test_declared_tensors_of_torchscript(tmp_path: Path) -> None:
    model = network(TWO_OUTPUTS, "Scores")
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3)), str(tmp_path / "model.pt"))
    declared = {"inputs": [{"name": "rows", "datatype": "fp32", "shape": [-1, 3]}]}
    (tmp_path / "model-settings.json").write_text(json.dumps(declared))
    with serving("pytorch", tmp_path, tmp_path / "log", "--nthread=2") as one:
        inputs, outputs = metadata(one)
        assert inputs == {"rows": ("FP32", [-1, 3])}
        assert outputs == {"output-0": ("FP32", [-1, 2]), "output-1": ("INT64", [-1])}
        scores, best = expected(model, EACH)
        answer = everywhere(one, {"rows": EACH})
        np.testing.assert_allclose(answer["output-0"], scores.numpy(), rtol=1e-5)
        assert answer["output-1"].tolist() == best.tolist()
        assert list(everywhere(one, {"rows": EACH}, ("output-1",))) == ["output-1"]
        assert "takes [-1, 3]" in infer_error(one, {"rows": EACH[:, :2]})[1]


def test_a_pickled_module_is_refused_without_loading_it(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return print, ("boo",)

    torch.save({"weights": Evil()}, tmp_path / "model.pt")
    line = failed_start("pytorch", tmp_path)
    assert "pickles objects, not weights alone (builtins.print)" in line or "__builtin__" in line
    assert "Fix: Save the weights alone, torch.save(model.state_dict()" in line


def test_weights_without_their_class(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pt")
    assert "holds weights without the network" in failed_start("pytorch", tmp_path)


def load(folder: Path, class_name: str = "") -> None:
    """In this process: PyTorch takes seconds to import."""
    from kedge.runtimes.pytorch import PytorchModel

    PytorchModel("m", folder, class_name=class_name).load()


@pytest.mark.parametrize(
    ("source", "class_name", "message"),
    [
        (SOURCE.replace("3, 2", "3, 4"), "", "does not fit Sum in model.py"),
        (SOURCE + SOURCE.replace("Sum", "Two"), "", "defines 2 networks: Sum, Two."),
        (SOURCE, "Other", "defines no network Other; it defines Sum."),
        ("x = 1", "", "defines no networks"),
        ("import nowhere_at_all", "", "imports nowhere_at_all, which is not installed"),
    ],
)
def test_classes_that_do_not_fit(
    tmp_path: Path, source: str, class_name: str, message: str
) -> None:
    write_kind("state", tmp_path)
    (tmp_path / "model.py").write_text(source)
    with pytest.raises(ModelLoadFailed) as caught:
        load(tmp_path, class_name)
    assert message in str(caught.value)


def test_a_class_by_name(tmp_path: Path) -> None:
    write_kind("state", tmp_path)
    (tmp_path / "model.py").write_text(SOURCE + SOURCE.replace("Sum", "Two"))
    load(tmp_path, "Two")


def test_an_export_of_another_version_that_fails_names_both(tmp_path: Path) -> None:
    write_kind("export", tmp_path)
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if name.endswith("models/model.json"):
                program = json.loads(content) | {"torch_version": "1.99.0+cpu"}
                program["schema_version"] = {"major": 99, "minor": 0}
                content = json.dumps(program).encode()
            archive.writestr(name, content)
    assert read_facts(path).torch_version == "1.99.0+cpu"
    with pytest.raises(ModelLoadFailed, match=r"was exported by PyTorch 1\.99\.0\+cpu, and 2\."):
        load(tmp_path)


def test_torchserve_s_layout(tmp_path: Path) -> None:
    (tmp_path / "model-store").mkdir()
    with pytest.raises(ModelLoadFailed, match=r"is laid out for TorchServe: it holds model-store/"):
        load(tmp_path)


def test_files_that_are_none(tmp_path: Path) -> None:
    write_kind("state", tmp_path)
    path = tmp_path / "model.pt"
    whole = path.read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "is a PyTorch file cut short"),
        (b"\x80\x02}q\x00.", "is a bare pickle"),
        (b"hello", "is no PyTorch file"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelLoadFailed, match=message):
            load(tmp_path)
