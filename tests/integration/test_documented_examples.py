"""The requests that KServe's and MLServer's documentation shows, and the answers it promises.

The models are trained here as those pages train theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import joblib
import pytest
from google.protobuf import json_format
from tests.integration import trained
from tests.integration.server_process import Served, serving

from kedge.protocol.open_inference import messages

INSTANCES = {"instances": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]]}
TENSOR = {
    "inputs": [
        {
            "name": "input-0",
            "shape": [2, 4],
            "datatype": "FP32",
            "data": [[6.8, 2.8, 4.8, 1.4], [6.0, 3.4, 4.5, 1.6]],
        }
    ]
}
GRPC = {
    "model_name": "m",
    "inputs": [
        {
            "name": "input-0",
            "shape": [2, 4],
            "datatype": "FP32",
            "contents": {"fp32_contents": [6.8, 2.8, 4.8, 1.4, 6.0, 3.4, 4.5, 1.6]},
        }
    ],
}


def sklearn_iris(folder: Path) -> None:
    from sklearn.svm import SVC

    joblib.dump(SVC(gamma="scale").fit(*trained.iris()), folder / "model.joblib")


def xgboost_iris(folder: Path) -> None:
    """As a classifier of scikit-learn's kind is saved: its classes, not their probabilities."""
    import xgboost

    table = xgboost.DMatrix(*trained.iris())
    options = {"objective": "multi:softmax", "num_class": 3, "nthread": 1}
    xgboost.train(options, table, 10).save_model(folder / "model.json")


def lightgbm_iris(folder: Path) -> None:
    """Trained on a frame: its columns are called as scikit-learn calls them."""
    import lightgbm
    import pandas as pd
    from sklearn.datasets import load_iris

    names = ["sepal_length_(cm)", "sepal_width_(cm)", "petal_length_(cm)", "petal_width_(cm)"]
    features, labels = load_iris(return_X_y=True)
    table = lightgbm.Dataset(pd.DataFrame(features, columns=names), label=labels)
    options = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    lightgbm.train(options, table, 20).save_model(folder / "model.bst")


def digits(folder: Path) -> None:
    """A support vector machine on the first half of the digits, with MLServer's settings."""
    from sklearn.datasets import load_digits
    from sklearn.svm import SVC

    images, labels = load_digits(return_X_y=True)
    half = len(images) // 2
    model = SVC(gamma=0.001).fit(images[:half], labels[:half])
    joblib.dump(model, folder / "mnist-svm.joblib")
    settings = {
        "name": "mnist-svm",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./mnist-svm.joblib", "version": "v0.1.0"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))


TRAINING = {
    "sklearn": sklearn_iris,
    "xgboost": xgboost_iris,
    "lightgbm": lightgbm_iris,
}


@pytest.fixture(scope="module", params=list(TRAINING))
def iris(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Served]]:
    folder = tmp_path_factory.mktemp(request.param)
    TRAINING[request.param](folder)
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving(request.param, folder, log) as served:
        yield request.param, served


def infer(served: Served, body: dict[str, Any]) -> dict[str, Any]:
    request = json_format.ParseDict(body, messages.ModelInferRequest())
    with grpc.insecure_channel(served.grpc) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        answer: dict[str, Any] = json_format.MessageToDict(call(request, timeout=30))
        return answer


def classes(framework: str, data: list[Any]) -> list[int]:
    """What was predicted; LightGBM answers the probability of each class."""
    if framework != "lightgbm":
        return [int(one) for one in data]
    flat = [one for row in data for one in (row if isinstance(row, list) else [row])]
    rows = [flat[at : at + 3] for at in range(0, len(flat), 3)]
    return [row.index(max(row)) for row in rows]


# -- KServe: two irises, both versicolor ---------------------------------------------------------


def test_v1(iris: tuple[str, Served]) -> None:
    framework, served = iris
    status, answer = served.post("/v1/models/m:predict", INSTANCES)
    assert status == 200
    assert classes(framework, answer["predictions"]) == [1, 1]
    if framework == "sklearn":
        assert answer == {"predictions": [1, 1]}


def test_v2_over_rest(iris: tuple[str, Served]) -> None:
    framework, served = iris
    status, answer = served.post("/v2/models/m/infer", TENSOR | {"id": "823248cc"})
    assert (status, answer["model_name"], answer["id"]) == (200, "m", "823248cc")
    (output,) = answer["outputs"]
    assert output["name"] == "output-0"
    assert output["shape"] == ([2, 3] if framework == "lightgbm" else [2])
    datatypes = {"sklearn": "INT64", "xgboost": "FP32", "lightgbm": "FP64"}
    assert output["datatype"] == datatypes[framework]
    assert classes(framework, output["data"]) == [1, 1]


def test_v2_over_grpc(iris: tuple[str, Served]) -> None:
    """As grpcurl sends it."""
    framework, served = iris
    answer = infer(served, GRPC)
    assert answer["modelName"] == "m"
    (output,) = answer["outputs"]
    contents = {"sklearn": "int64Contents", "xgboost": "fp32Contents", "lightgbm": "fp64Contents"}
    assert classes(framework, output["contents"][contents[framework]]) == [1, 1]


def test_readiness_and_metadata_pages(iris: tuple[str, Served]) -> None:
    _, served = iris
    assert served.get("/v1/models/m") == (200, {"name": "m", "ready": True})
    assert served.get("/v1/models") == (200, {"models": ["m"]})
    assert served.get("/v2/health/live") == (200, {"live": True})
    assert served.get("/v2/models/m/ready") == (200, {"name": "m", "ready": True})
    status, about = served.get("/v2/models/m")
    assert (status, about["name"]) == (200, "m")
    assert about["inputs"][0]["shape"][-1] == 4 or len(about["inputs"]) == 4


def test_columns_by_name_in_any_order(iris: tuple[str, Served]) -> None:
    """The LightGBM page sends a frame's columns, each cell under its row's label."""
    framework, served = iris
    if framework != "lightgbm":
        return  # The others were trained without names.
    row = {
        "sepal_width_(cm)": {"0": 3.5},
        "petal_length_(cm)": {"0": 1.4},
        "petal_width_(cm)": {"0": 0.2},
        "sepal_length_(cm)": {"0": 5.1},
    }
    status, answer = served.post("/v1/models/m:predict", {"inputs": [row]})
    assert status == 200, answer
    assert classes(framework, answer["predictions"]) == [0]
    assert len(answer["predictions"][0]) == 3


# -- MLServer: the ninth digit -------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("digits")
    digits(folder)
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving("sklearn", folder, log, "--model_name=mnist-svm") as served:
        yield served


def first_unseen_digit() -> list[float]:
    from sklearn.datasets import load_digits

    images, _ = load_digits(return_X_y=True)
    found: list[float] = images[len(images) // 2].tolist()
    return found


@pytest.mark.parametrize("path", ["/versions/v0.1.0", ""])
def test_a_digit(mnist: Served, path: str) -> None:
    image = first_unseen_digit()
    tensor = {"name": "predict", "shape": [1, 64], "datatype": "FP32", "data": [image]}
    status, answer = mnist.post(f"/v2/models/mnist-svm{path}/infer", {"inputs": [tensor]})
    assert status == 200, answer
    assert (answer["model_name"], answer["model_version"]) == ("mnist-svm", "v0.1.0")
    (output,) = answer["outputs"]
    assert (output["datatype"], output["data"]) == ("INT64", [8])


def test_outputs_by_the_names_of_its_methods(mnist: Served) -> None:
    tensor = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": first_unseen_digit()}
    wanted = [{"name": "predict"}, {"name": "decision_function"}]
    body = {"inputs": [tensor], "outputs": wanted}
    status, answer = mnist.post("/v2/models/mnist-svm/infer", body)
    assert status == 200, answer
    found = {one["name"]: one for one in answer["outputs"]}
    assert found["predict"]["data"] == [8]
    scores = found["decision_function"]
    assert scores["shape"] == [1, 10]
    assert scores["data"].index(max(scores["data"])) == 8


def test_a_tensor_may_say_how_it_is_to_be_read(mnist: Served) -> None:
    """`content_type: np` is what a tensor is anyway; on a tensor, and on the request."""
    tensor = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": first_unseen_digit()}
    as_numpy = {"parameters": {"content_type": "np"}}
    for body in ({"inputs": [tensor | as_numpy]}, {"inputs": [tensor]} | as_numpy):
        status, answer = mnist.post("/v2/models/mnist-svm/infer", body)
        assert (status, answer["outputs"][0]["data"]) == (200, [8])


def test_a_digit_over_grpc(mnist: Served) -> None:
    image = first_unseen_digit()
    tensor = {
        "name": "predict", "datatype": "FP32", "shape": [1, 64],
        "contents": {"fp32_contents": image},
    }  # fmt: skip
    body = {"model_name": "mnist-svm", "model_version": "v0.1.0", "inputs": [tensor]}
    answer = infer(mnist, body)
    assert (answer["modelName"], answer["modelVersion"]) == ("mnist-svm", "v0.1.0")
    assert answer["outputs"][0]["contents"]["int64Contents"] == ["8"]


def test_a_frame_as_mlserver_encodes_it(tmp_path: Path) -> None:
    """One tensor per column, and `content_type: pd` on the request."""
    folder = tmp_path / "model"
    folder.mkdir()
    trained.sklearn_frame(folder)
    columns = [
        {"name": "rooms", "shape": [2], "datatype": "FP64", "data": [2.0, 3.0]},
        {
            "name": "town", "shape": [2], "datatype": "BYTES", "data": ["b", "a"],
            "parameters": {"content_type": "str"},
        },
    ]  # fmt: skip
    body = {"parameters": {"content_type": "pd"}, "inputs": columns}
    with serving("sklearn", folder, tmp_path / "log") as served:
        status, answer = served.post("/v2/models/m/infer", body)
    assert status == 200, answer
    assert answer["outputs"][0]["data"] == pytest.approx([3.0, 3.0])
