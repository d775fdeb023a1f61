"""What an API server asks of a node."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from tests.unit.cluster_local.asking import Asker

from kedge.cluster.base import Object
from kedge.cluster.local.http import kubelet
from kedge.cluster.local.podlogs import PodLogs

POD: Object = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
    "spec": {"containers": [{"name": "c"}]},
    "status": {"containerStatuses": [{"name": "c", "restartCount": 1, "state": {"running": {}}}]},
}


def app(tmp_path: Path, *, allowed: bool = True) -> Starlette:
    folder = tmp_path / "u" / "logs" / "c"
    folder.mkdir(parents=True)
    (folder / "0.log").write_text("before\n")
    (folder / "1.log").write_text("one\ntwo\n")

    def find(namespace: str, name: str) -> Object | None:
        return POD if (namespace, name) == ("ns", "p") else None

    def allow(_request: Request) -> bool:
        return allowed

    return kubelet.make_app(PodLogs(tmp_path), find, allow=allow)


async def ask(app: Starlette, path: str) -> tuple[int, str]:
    answer = await Asker(app).ask("GET", path)
    return answer.status, answer.body.decode()


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("/containerLogs/ns/p/c", 200, "one\ntwo\n"),
        ("/containerLogs/ns/p/c?tailLines=1", 200, "two\n"),
        ("/containerLogs/ns/p/c?previous=true", 200, "before\n"),
        ("/containerLogs/ns/p/c?tailLines=x", 400, "no number"),
        ("/containerLogs/ns/p/other", 400, "not valid"),
        ("/containerLogs/ns/gone/c", 404, "not on this node"),
        ("/exec/ns/p/c", 501, "logs alone"),
    ],
)
async def test_it_gives_logs_and_nothing_else(
    tmp_path: Path, path: str, code: int, text: str
) -> None:
    found = await ask(app(tmp_path), path)
    assert found[0] == code
    assert text in found[1]


async def test_strangers_get_no_logs(tmp_path: Path) -> None:
    code, text = await ask(app(tmp_path, allowed=False), "/containerLogs/ns/p/c")
    assert (code, "two" in text) == (403, False)


def test_who_asks_without_an_address_is_a_stranger() -> None:
    assert not kubelet.is_neighbour(Request({"type": "http", "headers": []}))
