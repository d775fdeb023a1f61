"""`--workers N`: several processes that answer as one server."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
import pytest
from tests.integration import trained
from tests.integration.memory import proportional_bytes
from tests.integration.server_process import (
    Served,
    await_ready,
    environment,
    failed_start,
    serving,
)
from tests.ports import free_ports

from kedge.protocol.open_inference import messages

TELLS_PID = """
import os
import numpy as np
from pathlib import Path

VERSION = {version}
folder = Path(__file__).parent
try:
    (folder / "trap").unlink()
except FileNotFoundError:
    pass
else:
    raise RuntimeError("the trap was sprung")

def predict(rows):
    return {{"pid": np.full(len(rows), os.getpid()), "version": np.full(len(rows), VERSION)}}
"""

BODY = json.dumps({"instances": [[1.0]]}).encode()


def write_model(folder: Path, version: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(TELLS_PID.format(version=version))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models of plain Python that tell which process answers."""
    for name in ("a", "b"):
        write_model(tmp_path / "models" / name)
    return tmp_path / "models"


once = pytest.mark.parametrize("pair", ["loaded once"], indirect=True)
"""For what does not depend on how the workers came by their models."""


@pytest.fixture(params=["each loads", "loaded once"])
def pair(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> Iterator[Served]:
    """Two workers that serve the models `a` and `b`."""
    preload = f"--preload={request.param == 'loaded once'}"
    with serving("python", folder, tmp_path / "log", "--workers=2", preload) as served:
        yield served


def predicted(port: int, model: str = "a", count: int = 8) -> list[dict[str, int]]:
    """One prediction over each of `count` connections, all there at once: both workers have some.

    One after the other they may all go to the same worker, which has the fewest each time.
    """
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)))
            for _ in range(count)
        ]
        for connection in connections:
            connection.connect()
        return [_predicted(connection, model) for connection in connections]


def _predicted(connection: http.client.HTTPConnection, model: str) -> dict[str, int]:
    connection.request("POST", f"/v1/models/{model}:predict", BODY)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    found: dict[str, int] = json.loads(body)["predictions"][0]
    return found


def pids(served: Served) -> set[int]:
    return {one["pid"] for one in predicted(served.http_port)}


def versions(served: Served, model: str = "a") -> set[tuple[int, int]]:
    """Who answers, and with what."""
    return {(one["pid"], one["version"]) for one in predicted(served.http_port, model)}


def figures(served: Served) -> dict[str, float]:
    return read_figures(fresh(served, "GET", "/metrics")[1])


def read_figures(text: bytes) -> dict[str, float]:
    said = [line for line in text.decode().splitlines() if not line.startswith("#")]
    lines = (line.rpartition(" ") for line in said)
    return {name: float(value) for name, _, value in lines}


def fresh(served: Served, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """A request over a connection of its own, so that either worker may answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.http_port, timeout=60)) as one:
        one.request(method, path, body, {"content-type": "application/json"})
        answer = one.getresponse()
        return answer.status, answer.read()


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# -- all answer --------------------------------------------------------------------------------


def test_rest_and_grpc_are_answered_by_all(pair: Served) -> None:
    rest = pids(pair)
    assert len(rest) == 2
    assert pair.process.pid not in rest
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 1]}
    request = messages.ModelInferRequest(model_name="a", inputs=[tensor])
    request.inputs[0].contents.fp64_contents.append(1.0)
    over_grpc = set()
    with ExitStack() as stack:
        for number in range(8):
            options = [("grpc.use_local_subchannel_pool", 1), ("test.number", number)]
            channel = stack.enter_context(grpc.insecure_channel(pair.grpc, options=options))
            call = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=messages.ModelInferRequest.SerializeToString,
                response_deserializer=messages.ModelInferResponse.FromString,
            )
            answer = call(request, timeout=30)
            outputs = dict(zip([one.name for one in answer.outputs], answer.outputs, strict=True))
            over_grpc.add(outputs["pid"].contents.int64_contents[0])
    assert over_grpc == rest


@once
def test_connections_are_spread_evenly(pair: Served) -> None:
    address = "127.0.0.1", pair.http_port
    with closing(http.client.HTTPConnection(*address, timeout=60)) as asking:
        # One for each question would be counted while it ends, and others be put elsewhere.
        eventually(lambda: sum(spread(asking)) == 1)
        connections: list[socket.socket] = []

        def connect() -> None:
            # One after the other: in a crowd those that just arrive may be counted twice.
            there = sum(spread(asking))
            connections.append(socket.create_connection(address))
            eventually(lambda: sum(spread(asking)) == there + 1)

        try:
            for _ in range(41):
                connect()
            assert max(spread(asking)) - min(spread(asking)) <= 2
            for one in connections[:20]:
                one.close()
            eventually(lambda: sum(spread(asking)) == 22)
            for _ in range(20):
                connect()
            assert max(spread(asking)) - min(spread(asking)) <= 2
        finally:
            for one in connections:
                one.close()


def spread(asking: http.client.HTTPConnection) -> list[float]:
    """The connections of each; the one that asks is among them."""
    asking.request("GET", "/metrics")
    found = read_figures(asking.getresponse().read())
    return [value for name, value in found.items() if name.startswith("server_worker_conn")]


def test_metrics_and_statistics_are_sums(pair: Served) -> None:
    predicted(pair.http_port, count=10)
    name = 'model_requests_total{code="200",model_name="a",protocol="v1"}'
    assert {figures(pair)[name] for _ in range(4)} == {10.0}
    each = [figures(pair)[f'server_worker_requests_total{{worker="{i}"}}'] for i in (0, 1)]
    assert min(each) > 0
    assert sum(each) == 10
    for _ in range(4):
        stats = json.loads(fresh(pair, "GET", "/v2/models/a/stats")[1])["model_stats"]
        assert [one["inference_count"] for one in stats] == [10]


# -- a worker is killed ------------------------------------------------------------------------


class Clients:
    """Keep asking, each over one connection for as long as it lasts."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.answers: Counter[int] = Counter()
        self.failures: list[tuple[int, str]] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            pid = 0
            try:
                with closing(
                    http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                ) as connection:
                    while not self._stop.is_set():
                        connection.request("POST", "/v1/models/a:predict", BODY)
                        answer = connection.getresponse()
                        body = answer.read()
                        assert answer.status == 200, body
                        pid = json.loads(body)["predictions"][0]["pid"]
                        self.answers[pid] += 1
                        if answer.getheader("connection") == "close":
                            break
            except ConnectionRefusedError:
                return
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.failures.append((pid, repr(error)))


def test_a_killed_worker_returns_and_takes_nobody_with_it(pair: Served) -> None:
    victim, survivor = sorted(pids(pair))
    name = 'model_requests_total{code="200",model_name="a",protocol="v1"}'
    with Clients(pair.http_port, 8) as clients:
        eventually(lambda: min(clients.answers[victim], clients.answers[survivor]) > 20)
        before = figures(pair)[name]
        os.kill(victim, signal.SIGKILL)
        told = [figures(pair)[name] for _ in range(20)]
        eventually(lambda: len(clients.answers) == 3)
        newcomer = (set(clients.answers) - {victim, survivor}).pop()
        eventually(lambda: clients.answers[newcomer] > 20)
    assert {pid for pid, _ in clients.failures} <= {victim}
    assert told[0] >= before
    assert told == sorted(told)
    found = figures(pair)
    assert (
        found['server_worker_restarts_total{worker="0"}']
        + found['server_worker_restarts_total{worker="1"}']
        == 1
    )
    assert pids(pair) == {survivor, newcomer}


@once
def test_all_workers_are_killed_and_connections_wait_for_the_next(pair: Served) -> None:
    old = pids(pair)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    found = pids(pair)
    assert not found & old
    eventually(lambda: len(pids(pair)) == 2)


# -- the repository ----------------------------------------------------------------------------


def over_rest(served: Served, verb: str, model: str) -> None:
    status, body = fresh(served, "POST", f"/v2/repository/models/{model}/{verb}", b"{}")
    assert status == 200, body


def over_grpc(served: Served, verb: str, model: str) -> None:
    kind = getattr(messages, f"RepositoryModel{verb.capitalize()}Request")
    answer = getattr(messages, f"RepositoryModel{verb.capitalize()}Response")
    with grpc.insecure_channel(served.grpc) as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/RepositoryModel{verb.capitalize()}",
            request_serializer=kind.SerializeToString,
            response_deserializer=answer.FromString,
        )
        call(kind(model_name=model), timeout=60)


@once
@pytest.mark.parametrize("ask", [over_rest, over_grpc])
def test_load_and_unload_are_everyone_s(
    pair: Served, folder: Path, ask: Callable[[Served, str, str], None]
) -> None:
    both = pids(pair)
    write_model(folder / "a", version=2)
    ask(pair, "load", "a")
    assert versions(pair) == {(pid, 2) for pid in both}
    ask(pair, "unload", "a")
    for _ in range(4):
        assert fresh(pair, "POST", "/v1/models/a:predict", BODY)[0] == 404
        index = json.loads(fresh(pair, "POST", "/v2/repository/index", b"{}")[1])
        assert {(one["name"], one["state"]) for one in index} == {
            ("a", "UNAVAILABLE"),
            ("b", "READY"),
        }
    write_model(folder / "c", version=7)
    ask(pair, "load", "c")
    assert versions(pair, "c") == {(pid, 7) for pid in both}


def test_a_load_that_fails_on_one_changes_none(pair: Served, folder: Path) -> None:
    both = pids(pair)
    write_model(folder / "a", version=2)
    (folder / "a" / "trap").touch()
    status, body = fresh(pair, "POST", "/v2/repository/models/a/load", b"{}")
    assert status == 503
    assert b"the trap was sprung" in body
    assert versions(pair) == {(pid, 1) for pid in both}
    assert fresh(pair, "POST", "/v2/repository/models/zz/load", b"{}")[0] == 404
    over_rest(pair, "load", "a")
    assert versions(pair) == {(pid, 2) for pid in both}


def test_who_comes_later_holds_what_the_others_hold(pair: Served, folder: Path) -> None:
    write_model(folder / "c", version=3)
    over_rest(pair, "load", "c")
    over_rest(pair, "unload", "b")
    victim, survivor = sorted(pids(pair))
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(pids(pair)) == 2)
    (newcomer,) = pids(pair) - {survivor}
    assert versions(pair, "c") == {(survivor, 3), (newcomer, 3)}
    for _ in range(4):
        assert fresh(pair, "POST", "/v1/models/b:predict", BODY)[0] == 404
        index = json.loads(fresh(pair, "POST", "/v2/repository/index", b"{}")[1])
        assert {one["name"]: one["state"] for one in index} == {
            "a": "READY",
            "b": "UNAVAILABLE",
            "c": "READY",
        }


# -- the end -----------------------------------------------------------------------------------


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@once
def test_sigterm_cuts_nothing(pair: Served) -> None:
    both = pids(pair)
    with Clients(pair.http_port, 6) as clients:
        eventually(lambda: sum(clients.answers.values()) > 100)
        pair.process.send_signal(signal.SIGTERM)
        during = sum(clients.answers.values())
        eventually(lambda: sum(clients.answers.values()) > during + 100)
        assert pair.process.poll() is None
    assert clients.failures == []
    assert pair.process.wait(15) == 0
    assert all(map(gone, both))


@once
def test_the_parent_s_death_is_the_workers_end(pair: Served) -> None:
    both = pids(pair)
    pair.process.kill()
    pair.process.wait()
    eventually(lambda: all(map(gone, both)), 10)


@once
def test_a_worker_told_to_end_finishes_and_is_replaced(pair: Served) -> None:
    victim, survivor = sorted(pids(pair))
    with Clients(pair.http_port, 6) as clients:
        eventually(lambda: min(clients.answers[victim], clients.answers[survivor]) > 20)
        os.kill(victim, signal.SIGTERM)
        eventually(lambda: len(clients.answers) == 3)
    assert clients.failures == []


# -- the beginning -----------------------------------------------------------------------------


def test_a_load_that_fails_is_told_once(tmp_path: Path) -> None:
    folder, log = tmp_path / "model", tmp_path / "termination-log"
    folder.mkdir()
    (folder / "model.joblib").write_bytes(b"junk")
    for preload in ("--preload=true", "--preload=false"):
        code, line = failed_start(
            "sklearn", folder, "--workers=2", preload, KEDGE_TERMINATION_LOG=str(log)
        )
        assert code == 1
        assert line.startswith("ModelLoadFailed: ")
        assert "cannot be unpickled" in line
        assert " Fix: " in line
        assert log.read_text().strip() == line
        log.unlink()


def test_a_model_that_dies_while_loading(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import os\nos.kill(os.getpid(), 9)\ndef predict(x): ...\n")
    code, line = failed_start("python", tmp_path, "--workers=2")
    assert code == 1
    assert re.match(r"ModelLoadFailed: Worker \d was killed by SIGKILL before it was ready", line)


def test_a_port_in_use(tmp_path: Path) -> None:
    write_model(tmp_path)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        code, line = failed_start("python", tmp_path, "--workers=2", f"--http_port={port}")
    assert code == 1
    assert line.startswith(f"PortInUse: Port {port} ")


THREADED = """
import threading, time, os
import numpy as np
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
def predict(rows):
    return {"pid": np.full(len(rows), os.getpid()), "version": np.ones(len(rows), dtype=int)}
"""


def test_a_model_with_threads_is_not_forked(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "a"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(THREADED)
    log = tmp_path / "log"
    with serving("python", folder.parent, log, "--workers=2", "--preload") as served:
        assert len(pids(served)) == 2
    assert "each worker loads for itself, for loading left 1 threads running" in log.read_text()


# -- limits ------------------------------------------------------------------------------------

SLOW = """
import os, time
import numpy as np
def predict(rows):
    time.sleep(2)
    return np.zeros(len(rows))
"""


def test_the_concurrency_limit_is_the_server_s(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.py").write_text(SLOW)
    flags = ["--workers=2", "--max_concurrency=2", "--max_queue=2"]
    with serving("python", tmp_path / "model", tmp_path / "log", *flags) as served:
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(fresh(served, "POST", "/v1/models/m:predict", BODY)[0])

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
    assert Counter(statuses) == {200: 4, 503: 4}


# -- memory ------------------------------------------------------------------------------------


def large_forest(folder: Path) -> Path:
    """Some ten thousand nodes in each of many trees."""
    import joblib
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor

    generator = np.random.default_rng(0)
    features = generator.normal(size=(12_000, 4))
    model = RandomForestRegressor(25, n_jobs=1, random_state=0).fit(
        features, features @ [1, 2, 3, 4]
    )
    joblib.dump(model, folder / "model.joblib")
    return folder


@pytest.mark.timeout(300)
def test_two_workers_share_the_model_s_memory(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    model_bytes = (large_forest(folder) / "model.joblib").stat().st_size
    taken: dict[str, int] = {}
    for name, flags in {
        "one": ["--workers=1"],
        "two, loaded once": ["--workers=2"],
        "two, each loads": ["--workers=2", "--preload=false"],
    }.items():
        with serving("sklearn", folder, tmp_path / "log", *flags) as served:
            body = json.dumps({"instances": trained.ROWS}).encode()
            for _ in range(50):
                assert fresh(served, "POST", "/v1/models/m:predict", body)[0] == 200
            taken[name] = proportional_bytes(served.process.pid)
    print(f"\nmodel file {model_bytes >> 20} MiB; proportional set size in MiB: ", end="")
    print(", ".join(f"{name} {size >> 20}" for name, size in taken.items()))
    shared, apart = (taken[name] - taken["one"] for name in list(taken)[1:])
    assert shared < apart - model_bytes


SCRIPT = """
import os, sys
import numpy as np
from kedge.server import Model, ModelServer

class Tells(Model):
    def predict(self, payload, headers):
        return {"predictions": [{"pid": os.getpid(), "version": 1}]}

ModelServer(workers=2).start([Tells("a")])
"""


def test_a_script_has_workers_too(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(SCRIPT)
    http_port, grpc_port = free_ports(2)
    ports = [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "serve.py"), *ports],
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        await_ready(process, http_port, log)
        served = Served(process, http_port, grpc_port, log)
        assert len(pids(served)) == 2
        over_rest(served, "load", "a")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
