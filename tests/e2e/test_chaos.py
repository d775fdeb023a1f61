"""kill -9 of any part at any time: warm services go on, nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.e2e.running import RunningKedge, condition, processes_under, wait_for
from tests.e2e.test_faults import custom, service

from kedge.api.scheme import INFERENCE_SERVICE, POD

WARM = "serving.kserve.io/inferenceservice=warm"
KILLS = int(os.environ.get("KEDGE_TEST_KILLS", "3"))
BODY = json.dumps({"instances": [[6.8, 2.8, 4.8, 1.4]]}).encode()
HEADERS = {"content-type": "application/json"}


class Load:
    """Closed-loop clients on keep-alive connections; every answer that is not 200 is kept."""

    def __init__(self, port: int, path: str, clients: int = 16) -> None:
        self._port, self._path = port, path
        self.answered = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stop.is_set():
            try:
                connection.request("POST", self._path, BODY, HEADERS)
                answer = connection.getresponse()
                text = answer.read()
                failure = "" if answer.status == 200 else f"{answer.status} {text[:200]!r}"
            except OSError as error:
                failure = repr(error)
                connection.close()
            except http.client.HTTPException as error:
                failure = repr(error)
                connection.close()
            with self._lock:
                if failure:
                    self.failed.append(failure)
                else:
                    self.answered += 1
            time.sleep(0.002)
        connection.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def load(kedge: RunningKedge, name: str) -> Iterator[Load]:
    clients = Load(kedge.port, f"/serving/default/{name}/v1/models/{name}:predict")
    try:
        wait_for(lambda: clients.answered > 50, message=f"no answers: {clients.failed[:3]}")
        yield clients
    finally:
        clients.stop()


@pytest.fixture
def warm(own_kedge: RunningKedge, iris: Path) -> RunningKedge:
    own_kedge.apply(service("warm", iris))
    own_kedge.until_ready("warm")
    return own_kedge


@pytest.mark.parametrize("part", ["control", "data"])
def test_killing_a_part_of_the_control_plane_fails_no_request(
    warm: RunningKedge, part: str
) -> None:
    with load(warm, "warm") as clients:
        for _ in range(KILLS):
            before = warm.part(part)
            os.kill(before, signal.SIGKILL)
            wait_for(lambda before=before: _other(warm, part, before))  # type: ignore[misc]  # bound at once
            answered = clients.answered
            wait_for(lambda answered=answered: clients.answered > answered + 100)  # type: ignore[misc]  # bound at once
    assert clients.failed == []
    warm.until_ready("warm")


def _other(kedge: RunningKedge, part: str, before: int) -> bool:
    try:
        return kedge.part(part) != before
    except AssertionError:
        return False


def test_a_killed_envoy_is_soon_back(warm: RunningKedge) -> None:
    path = "/serving/default/warm/v1/models/warm:predict"
    for _ in range(KILLS):
        os.kill(warm.part("envoy"), signal.SIGKILL)
        killed = time.monotonic()

        def answers() -> bool:
            try:
                return warm.post(path, json.loads(BODY))[0] == 200
            except OSError:
                return False

        wait_for(answers, 20)
        # Under a second on a quiet machine: a figure to read, not one to fail by.
        print(f"answered again after {time.monotonic() - killed:.2f} s")


@pytest.mark.parametrize("mode", ["Knative", "Standard"])
def test_a_rolling_update_fails_no_request(own_kedge: RunningKedge, iris: Path, mode: str) -> None:
    warm = own_kedge
    manifest = service("warm", iris)
    manifest["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": mode}
    warm.apply(manifest)
    warm.until_ready("warm")
    with load(warm, "warm") as clients:
        for turn in range(2):
            before = {pod["metadata"]["uid"] for pod in warm.objects(POD, WARM)}
            warm.kedge("rollout", "restart", "warm")
            wait_for(
                lambda before=before: _replaced(warm, "warm", before),  # type: ignore[misc]  # bound at once
                60,
                f"turn {turn}: the pods were not replaced",
            )
    assert clients.failed == []


def _replaced(kedge: RunningKedge, name: str, before: set[str]) -> bool:
    pods = kedge.objects(POD, f"serving.kserve.io/inferenceservice={name}")
    return (
        bool(pods)
        and not before & {pod["metadata"]["uid"] for pod in pods}
        and all(condition(pod).get("status") == "True" for pod in pods)
    )


def test_nothing_acknowledged_is_lost_when_everything_is_killed(
    own_kedge: RunningKedge, iris: Path
) -> None:
    acknowledged: list[str] = []

    def apply(number: int) -> None:
        name = f"lost-{number}"
        manifest = service(name, iris)
        manifest["metadata"]["annotations"] = {"serving.kserve.io/stop": "true"}
        with contextlib.suppress(OSError):
            if own_kedge.api("POST", INFERENCE_SERVICE.path("default"), manifest)[0] == 201:
                acknowledged.append(name)

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(apply, number) for number in range(20)]
        wait_for(lambda: len(acknowledged) >= 5, 60)
        own_kedge.kill()
        for one in waiting:
            one.result()
    wait_for(lambda: not processes_under(own_kedge.data_dir), 10)
    own_kedge.start()
    names = {obj["metadata"]["name"] for obj in own_kedge.objects(INFERENCE_SERVICE)}
    assert set(acknowledged) <= names


def test_a_kill_during_a_rolling_update_comes_back(warm: RunningKedge) -> None:
    with load(warm, "warm"):
        warm.kedge("rollout", "restart", "warm")
        warm.kill()
    wait_for(lambda: not processes_under(warm.data_dir), 10)
    warm.start()
    warm.until_ready("warm")
    path = "/serving/default/warm/v1/models/warm:predict"
    assert warm.post(path, json.loads(BODY))[0] == 200


def test_no_process_survives_its_supervisor(warm: RunningKedge) -> None:
    daemon = (
        "import os, time\nif os.fork() == 0:\n os.setsid()\n"
        " if os.fork() == 0: time.sleep(10000)\n os._exit(0)\ntime.sleep(10000)"
    )
    warm.apply(custom("daemon", "kedge/python", "-c", daemon))

    def sleepers() -> int:
        return sum("time.sleep(10000)" in line for line in processes_under(warm.data_dir))

    wait_for(lambda: sleepers() >= 2, message="the container never forked twice")
    warm.kill()
    gone: Callable[[], bool] = lambda: not processes_under(warm.data_dir)  # noqa: E731
    wait_for(gone, 10, f"left behind: {processes_under(warm.data_dir)}")
