"""The life of a server process: start, failure to start, and an orderly end."""

from __future__ import annotations

import json
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import pytest
from tests.integration import trained
from tests.integration.server_process import (
    Served,
    command,
    environment,
    failed_start,
    serving,
)
from tests.ports import free_ports


@pytest.fixture(scope="module")
def sklearn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained.sklearn_labels(tmp_path_factory.mktemp("model"))


def predict(served: Served) -> int:
    return served.post("/v1/models/m:predict", {"instances": trained.ROWS})[0]


# -- sklearn's own ways ------------------------------------------------------------------------


def test_probabilities_by_environment(sklearn_folder: Path, tmp_path: Path) -> None:
    with serving("sklearn", sklearn_folder, tmp_path / "log", PREDICT_PROBA="true") as served:
        status, body = served.post("/v1/models/m:predict", {"instances": trained.ROWS})
        assert status == 200
        assert [len(row) for row in body["predictions"]] == [3, 3]
        metadata = served.get("/v2/models/m")[1]
        assert metadata["outputs"] == [{"name": "output-0", "datatype": "FP64", "shape": [-1, 3]}]


def test_frames_by_column_name(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with serving("sklearn", trained.sklearn_frame(folder), tmp_path / "log") as served:
        rows = [{"town": "b", "rooms": 2.0}, {"rooms": 3.0, "town": "a"}]
        status, body = served.post("/v1/models/m:predict", {"instances": rows})
        assert status == 200
        assert body["predictions"] == pytest.approx([3.0, 3.0])
        inputs = served.get("/v2/models/m")[1]["inputs"]
        assert [(one["name"], one["datatype"]) for one in inputs] == [
            ("rooms", "FP64"),
            ("town", "BYTES"),
        ]
        tensors = [
            {"name": "town", "shape": [1], "datatype": "BYTES", "data": ["b"]},
            {"name": "rooms", "shape": [1], "datatype": "FP64", "data": [2.0]},
        ]
        status, body = served.post("/v2/models/m/infer", {"inputs": tensors})
        assert status == 200
        assert body["outputs"][0]["data"] == pytest.approx([3.0])
        status, body = served.post(
            "/v1/models/m:predict", {"instances": [{"town": "nowhere", "rooms": 1.0}]}
        )
        assert status == 400
        assert "unknown categories" in body["error"]


def test_text(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with serving("sklearn", trained.sklearn_text(folder), tmp_path / "log") as served:
        body = {"instances": ["good fine", "awful"]}
        assert served.post("/v1/models/m:predict", body) == (200, {"predictions": [1, 0]})
        tensor = {"name": "t", "shape": [2], "datatype": "BYTES", "data": ["good", "bad"]}
        status, answer = served.post("/v2/models/m/infer", {"inputs": [tensor]})
        assert (status, answer["outputs"][0]["data"]) == (200, [1, 0])
        assert served.get("/v2/models/m")[1]["inputs"][0]["datatype"] == "BYTES"


def test_a_folder_of_models(sklearn_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "all" / name).mkdir(parents=True)
        content = (sklearn_folder / "model.pkl").read_bytes()
        (tmp_path / "all" / name / "model.pkl").write_bytes(content)
    with serving("sklearn", tmp_path / "all", tmp_path / "log") as served:
        assert served.get("/v1/models") == (200, {"models": ["a", "b"]})
        for name in ("a", "b"):
            path = f"/v1/models/{name}:predict"
            assert served.post(path, {"instances": trained.ROWS})[0] == 200


# -- the end -----------------------------------------------------------------------------------


def test_sigterm_ends_an_idle_server_soon(sklearn_folder: Path, tmp_path: Path) -> None:
    with serving("sklearn", sklearn_folder, tmp_path / "log") as served:
        assert predict(served) == 200
        started = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(15) == 0
        assert time.monotonic() - started < 10


def test_sigterm_while_loading_ends_at_once(tmp_path: Path) -> None:
    """Also as a container's first process, for which the kernel knows no default."""
    begun = tmp_path / "begun"
    slow = f"cos\nmkdir\n(S'{begun}'\ntR0ctime\nsleep\n(I60\ntR."
    (tmp_path / "model.pkl").write_bytes(slow.encode())
    http_port, grpc_port = free_ports(2)
    ports = [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    process = subprocess.Popen(
        command("sklearn", f"--model_dir={tmp_path}", *ports), env=environment()
    )
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 128 + signal.SIGTERM


def test_sigterm_under_load_cuts_nothing(sklearn_folder: Path, tmp_path: Path) -> None:
    """Whoever still asks is answered; connections are handed back one by one, none is cut."""
    body = json.dumps({"instances": trained.ROWS}).encode()
    head = (
        f"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    counts = {"answered": 0, "cut": 0}
    stop = threading.Event()

    def client(port: int) -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as one:
                    keep = True
                    while keep and not stop.is_set():
                        one.sendall(head + body)
                        answer = one.recv(65536)
                        if not answer.startswith(b"HTTP/1.1 200"):
                            counts["cut"] += 1
                            return
                        counts["answered"] += 1
                        keep = b"connection: close" not in answer
            except OSError:
                return  # Connecting is refused once the server is gone.

    with serving("sklearn", sklearn_folder, tmp_path / "log") as served:
        clients = [threading.Thread(target=client, args=(served.http_port,)) for _ in range(4)]
        for one in clients:
            one.start()
        while counts["answered"] < 100:
            time.sleep(0.01)
        served.process.send_signal(signal.SIGTERM)
        during = counts["answered"]
        while counts["answered"] < during + 100:
            assert served.process.poll() is None
            time.sleep(0.01)
        stop.set()
        for one in clients:
            one.join()
        assert served.process.wait(15) == 0
    assert counts["cut"] == 0


def test_a_slow_request_is_waited_for(sklearn_folder: Path, tmp_path: Path) -> None:
    body = json.dumps({"instances": trained.ROWS}).encode()
    head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with serving("sklearn", sklearn_folder, tmp_path / "log") as served:
        with socket.create_connection(("127.0.0.1", served.http_port), 10) as one:
            one.sendall(head.encode() + body[:5])
            served.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                served.process.wait(1.5)
            one.sendall(body[5:])
            assert one.recv(65536).startswith(b"HTTP/1.1 200")
        assert served.process.wait(15) == 0


def test_grace_is_the_limit(sklearn_folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        serving("sklearn", sklearn_folder, log, "--grace-period=1") as served,
        socket.create_connection(("127.0.0.1", served.http_port), 10) as one,
    ):
        one.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(15) == 0
    assert "the grace of 1s is over" in log.read_text()


# -- failure to start --------------------------------------------------------------------------


def expect(found: tuple[int, str], *parts: str) -> None:
    code, line = found
    assert code == 1
    assert " Fix: " in line
    for part in parts:
        assert part in line


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    expect(
        failed_start("sklearn", tmp_path / "no"),
        "ModelLoadFailed: ",
        f"{tmp_path}/no does not exist",
    )
    expect(failed_start("sklearn", tmp_path), "ModelLoadFailed: ", "the folder is empty")
    (tmp_path / "model.onnx").write_bytes(b"x")
    log = tmp_path.parent / "termination-log"
    found = failed_start("xgboost", tmp_path, KEDGE_TERMINATION_LOG=str(log))
    expect(found, "it holds model.onnx", ".bst, .json or .ubj")
    assert log.read_text().strip() == found[1]


def test_two_models(tmp_path: Path) -> None:
    for name in ("a.joblib", "b.pkl"):
        (tmp_path / name).write_bytes(b"x")
    expect(failed_start("sklearn", tmp_path), "More than one model file", "[a.joblib, b.pkl]")


def test_corrupt_pickles(sklearn_folder: Path, tmp_path: Path) -> None:
    whole = (sklearn_folder / "model.pkl").read_bytes()
    for content in (b"not a pickle", whole[: len(whole) // 2]):
        (tmp_path / "model.pkl").write_bytes(content)
        expect(failed_start("sklearn", tmp_path), "is not a readable pickle", "model.pkl")


def test_a_pickle_that_needs_a_missing_module(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"cno_such_library.models\nThing\n.")
    expect(
        failed_start("sklearn", tmp_path),
        "needs module no_such_library (for no_such_library.models.Thing)",
        "pip install no_such_library",
    )


def test_a_pickle_of_another_sklearn_that_cannot_be_used(tmp_path: Path) -> None:
    """A class that this version has no more, beside the mark of the version that had it."""
    mark = b"X\x10\x00\x00\x00_sklearn_versionX\x06\x00\x00\x000.22.1"
    (tmp_path / "model.pkl").write_bytes(b"\x80\x02}" + mark + b"s0csklearn.svm.classes\nSVC\n.")
    expect(
        failed_start("sklearn", tmp_path),
        "was trained with scikit-learn 0.22.1",
        "which cannot use it",
        "pip install scikit-learn==0.22.1",
    )


def test_a_pickle_of_another_sklearn_that_works_is_a_warning(
    sklearn_folder: Path, tmp_path: Path
) -> None:
    import sklearn

    version = sklearn.__version__.encode()
    other = b"0" + version[1:]
    content = (sklearn_folder / "model.pkl").read_bytes()
    assert version in content
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(content.replace(version, other))
    with serving("sklearn", folder, tmp_path / "log") as served:
        assert predict(served) == 200
    assert f"was trained with scikit-learn {other.decode()}" in (tmp_path / "log").read_text()


def test_a_pickle_of_no_model(tmp_path: Path) -> None:
    joblib.dump({"a": 1}, tmp_path / "model.joblib")
    expect(failed_start("sklearn", tmp_path), "holds a dict, which has no predict method")


def test_bad_xgboost_files(tmp_path: Path) -> None:
    whole = (trained.xgboost_classifier(tmp_path) / "model.json").read_bytes()
    (tmp_path / "model.json").unlink()
    cases = {
        "model.json": (whole[:500], "no complete XGBoost model"),
        "model.ubj": (b'{"learner": {}, "version": [9, 0, 0]}', "was saved by XGBoost 9.0.0"),
        "model.bst": (b"binf" + bytes(100), "old binary format"),
        "other.bst": (pickle.dumps({}), "is a pickle"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        expect(failed_start("xgboost", tmp_path), message, name)
        (tmp_path / name).unlink()


def test_bad_lightgbm_files(tmp_path: Path) -> None:
    path = trained.lightgbm_classifier(tmp_path) / "model.bst"
    whole = path.read_bytes()
    cases = [
        (whole[: len(whole) // 2], "is cut short: its header promises"),
        (whole.replace(b"version=v4", b"version=v9"), "has model format 'v9'"),
        (b"junk", "is not a LightGBM model"),
        (whole.replace(b"num_leaves=", b"\xff"), "is damaged"),
    ]
    for content, message in cases:
        path.write_bytes(content)
        expect(failed_start("lightgbm", tmp_path), message)


def test_port_in_use(sklearn_folder: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        found = failed_start("sklearn", sklearn_folder, f"--http_port={port}")
        expect(found, f"PortInUse: Port {port} on 127.0.0.1 is taken (held by pid ", "--http_port")


def test_bad_usage() -> None:
    expect(failed_start("nope", Path("/")), "BadUsage: There is no runtime 'nope'")


def test_every_kserve_flag_is_taken(sklearn_folder: Path, tmp_path: Path) -> None:
    flags = ["--workers=1", "--max_threads=4", "--enable_docs_url=false", "--predictor_protocol=v1"]
    with serving("sklearn", sklearn_folder, tmp_path / "log", *flags) as served:
        assert predict(served) == 200
    assert "--max_threads has no effect" in (tmp_path / "log").read_text()


# -- weight ------------------------------------------------------------------------------------


def test_importing_the_server_is_light() -> None:
    script = (
        "import sys, kedge.server, kedge.server.main\n"
        "heavy = {'starlette', 'prometheus_client', 'sklearn', 'pandas', 'typer', 'rich', 'grpc'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, check=True
    )
    assert done.stdout.strip() == b"[]"


def test_boosters_do_not_bring_sklearn(tmp_path: Path) -> None:
    """Its import would be four fifths of their start."""
    folder = trained.lightgbm_classifier(tmp_path)
    http_port, grpc_port = free_ports(2)
    arguments = command("lightgbm", f"--model_dir={folder}")[3:]
    script = (
        "import sys, threading, os, signal\n"
        "from kedge.server.main import serve\n"
        "threading.Timer(2, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()\n"
        "code = serve(sys.argv[2:])\n"
        "print(code, 'sklearn' in sys.modules, 'pandas' in sys.modules)"
    )
    ports = [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, *ports],
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert done.stdout.split() == [b"0", b"False", b"False"], done.stderr
