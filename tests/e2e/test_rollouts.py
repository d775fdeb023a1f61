"""Canary, promotion, rollback, broken and overwritten models: under load, without a failed request.

Model `n` answers `n` to everything, so that an answer tells which revision gave it.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.running import RunningKedge, condition, wait_for

from kedge.api.scheme import DEPLOYMENT, INFERENCE_SERVICE

REQUESTS = int(os.environ.get("KEDGE_TEST_CANARY_REQUESTS", "2000"))
BODY = json.dumps({"instances": [[6.8, 2.8, 4.8, 1.4]]}).encode()
HEADERS = {"content-type": "application/json"}
TRAIN = """
import sys, joblib
from sklearn.dummy import DummyClassifier
for number in (1, 2, 3, 4):
    model = DummyClassifier(strategy="constant", constant=number)
    joblib.dump(model.fit([[0, 0, 0, 0]] * 4, [1, 2, 3, 4]), f"{sys.argv[1]}/{number}.joblib")
"""
COLUMNS = ("PREV", "LATEST", "PREVROLLEDOUTREVISION", "LATESTREADYREVISION")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    subprocess.run([sys.executable, "-c", TRAIN, str(folder)], check=True)
    return folder


class Votes:
    """Clients that count the answers by what they say."""

    def __init__(self, port: int, name: str, clients: int = 4) -> None:
        self._port, self._path = port, f"/serving/default/{name}/v1/models/{name}:predict"
        self.answers: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _client(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stop.is_set():
            try:
                connection.request("POST", self._path, BODY, HEADERS)
                answer = connection.getresponse()
                text = answer.read()
                said = f"{answer.status} {text[:300]!r}"
                if answer.status == 200:
                    said = str(json.loads(text)["predictions"][0])
            except (OSError, http.client.HTTPException) as error:
                said = repr(error)
                connection.close()
            with self._lock:
                self.answers[said] += 1
            time.sleep(0.002)
        connection.close()

    def take(self, requests: int = 200) -> Counter[str]:
        """The answers to the next requests, those that are under way aside."""
        wait_for(lambda: self._after(20), 60)
        wait_for(lambda: self.answers.total() >= requests, 120)
        with self._lock:
            return Counter(self.answers)

    def _after(self, requests: int) -> bool:
        if self.answers.total() < requests:
            return False
        with self._lock:
            self._before += self.answers
            self.answers.clear()
        return True

    @property
    def failed(self) -> list[str]:
        return [said for said in self._before + self.answers if not said.isdigit()]

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def votes(kedge: RunningKedge, name: str) -> Iterator[Votes]:
    counting = Votes(kedge.port, name)
    try:
        yield counting
    finally:
        counting.stop()


def manifest(name: str, folder: Path, **predictor: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "predictor": {
                "model": {"modelFormat": {"name": "sklearn"}, "storageUri": f"file://{folder}"},
                **predictor,
            }
        },
    }


class Service:
    """A service whose versions are folders with one model each."""

    def __init__(self, kedge: RunningKedge, models: Path, folder: Path, name: str) -> None:
        self.kedge, self._models, self.folder, self.name = kedge, models, folder, name

    def put(self, number: int, folder: str = "live") -> Path:
        """Model `number` into a folder, over what is there."""
        place = self.folder / folder
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(self._models / f"{number}.joblib", place / "model.joblib")
        return place

    def create(self, place: Path, **predictor: Any) -> None:
        self.kedge.apply(manifest(self.name, place, **predictor))
        self.kedge.until_ready(self.name)

    def edit(self, place: Path | None = None, **predictor: Any) -> None:
        """Another folder, or other fields; None removes one."""
        stored = self.kedge.service(self.name)
        spec = stored["spec"]["predictor"]
        spec.update(predictor)
        stored["spec"]["predictor"] = {k: v for k, v in spec.items() if v is not None}
        if place:
            spec["model"]["storageUri"] = f"file://{place}"
        path = INFERENCE_SERVICE.path("default", self.name)
        status, answer = self.kedge.api("PUT", path, stored)
        assert status == 200, answer

    @property
    def state(self) -> dict[str, Any]:
        found = self.kedge.service(self.name)["status"].get("components") or {}
        state: dict[str, Any] = found.get("predictor") or {}
        return state

    @property
    def ready(self) -> dict[str, Any]:
        return condition(self.kedge.service(self.name))

    def shares(self) -> dict[str, int]:
        """Percent by the revision's number."""
        return {
            entry["revisionName"].rpartition("-")[2].lstrip("0"): entry["percent"]
            for entry in self.state.get("traffic", ())
            if entry["percent"]
        }

    def until(self, **shares: int) -> None:
        """Wait for shares by revision (`r1=90`) that the status and the gateway agree on."""
        wanted = {key[1:]: value for key, value in shares.items()}
        wait_for(
            lambda: self.shares() == wanted and self.kedge.is_ready(self.name),
            60,
            lambda: f"{self.shares()} {self.ready}",
        )


@pytest.fixture
def numbers(kedge: RunningKedge, models: Path, tmp_path: Path) -> Iterator[Service]:
    service = Service(kedge, models, tmp_path, f"n{time.monotonic_ns() % 10**9}")
    yield service
    kedge.delete(service.name)


def band(share: float, requests: int) -> float:
    """Half the width of the binomial's 99.9 % band."""
    return 3.29 * math.sqrt(requests * share * (1 - share))


def test_a_canary_gets_its_share_and_nobody_fails(numbers: Service) -> None:
    one, two, three = (numbers.put(number, str(number)) for number in (1, 2, 3))
    numbers.create(one)
    with votes(numbers.kedge, numbers.name) as clients:
        numbers.edit(two, canaryTrafficPercent=20)
        numbers.until(r1=80, r2=20)
        found = clients.take(REQUESTS)
        expected = found.total() / 5
        assert abs(found["2"] - expected) <= band(0.2, found.total()), found

        # Edited twice on the way: the third revision takes the canary's place.
        numbers.edit(three, canaryTrafficPercent=50)
        numbers.until(r1=50, r3=50)
        assert set(clients.take()) == {"1", "3"}

        numbers.edit(canaryTrafficPercent=None)
        numbers.until(r3=100)
        assert set(clients.take()) == {"3"}
        state = numbers.state
        assert state["latestRolledoutRevision"].endswith("-00003")
        assert state["previousRolledoutRevision"].endswith("-00001")

        # Back to what was there before all that.
        numbers.edit(canaryTrafficPercent=0)
        numbers.until(r1=100)
        assert set(clients.take()) == {"1"}
    assert clients.failed == []


def test_a_broken_revision_gets_nothing(numbers: Service) -> None:
    one, two = numbers.put(1, "1"), numbers.put(2, "2")
    (two / "model.joblib").write_bytes(b"not a model")
    numbers.create(one)
    with votes(numbers.kedge, numbers.name) as clients:
        numbers.edit(two)
        wait_for(
            lambda: condition(numbers.kedge.service(numbers.name)).get("status") == "False", 60
        )
        assert "model.joblib" in condition(numbers.kedge.service(numbers.name))["message"]
        assert set(clients.take()) == {"1"}
        # Mended in place: the revision takes the files as they are now.
        numbers.put(2, "2")
        numbers.until(r2=100)
        assert set(clients.take()) == {"2"}
    assert clients.failed == []


def test_a_rollback_brings_the_old_answers_back(numbers: Service) -> None:
    live = numbers.put(1)
    numbers.create(live)
    with votes(numbers.kedge, numbers.name) as clients:
        numbers.put(2)
        assert set(clients.take()) == {"1"}
        numbers.kedge.kedge("rollout", "restart", numbers.name)
        numbers.until(r2=100)
        assert set(clients.take()) == {"2"}

        numbers.kedge.kedge("rollout", "undo", numbers.name)
        numbers.until(r1=100)
        assert set(clients.take()) == {"1"}, "the folder has other files by now"

        numbers.kedge.kedge("rollout", "promote", numbers.name)
        numbers.until(r2=100)
        assert set(clients.take()) == {"2"}
    assert clients.failed == []


def test_columns_tags_and_revisions(numbers: Service) -> None:
    numbers.create(numbers.put(1, "1"))
    numbers.edit(numbers.put(2, "2"), canaryTrafficPercent=10)
    numbers.until(r1=90, r2=10)
    shown = numbers.kedge.kubectl("get", "isvc", numbers.name).splitlines()
    row = dict(zip(shown[0].split(), shown[1].split(), strict=False))
    name = f"{numbers.name}-predictor"
    assert [row[column] for column in COLUMNS] == ["90", "10", f"{name}-00001", f"{name}-00002"]

    table = numbers.kedge.kedge("get", "revisions", numbers.name)
    for line, share, role in zip(
        table.splitlines()[1:], ("10 %", "90 %"), ("newest, ready", "rolled out"), strict=True
    ):
        assert share in line
        assert role in line

    path = f"/v1/models/{numbers.name}:predict"
    tagged = next(entry for entry in numbers.state["traffic"] if entry.get("tag") == "prev")
    host = tagged["url"].removeprefix("http://")
    for _ in range(5):
        status, answer = numbers.kedge.post(path, json.loads(BODY), host)
        assert (status, answer) == (200, {"predictions": [1]})

    # Promoted: the old one rests, and comes back by itself when a rollback asks.
    numbers.edit(canaryTrafficPercent=None)
    numbers.until(r2=100)
    wait_for(lambda: replicas(numbers, 1) == 0, 30)


def replicas(service: Service, number: int) -> int:
    found = service.kedge.stored(DEPLOYMENT, f"{service.name}-predictor-{number:05d}")
    return int(found["spec"]["replicas"])
