"""The access log: its format's placeholders, and a line for every answer."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.server.models import Doubler
from tests.unit.server.test_http_connection import post, predict
from tests.unit.server.transport import Recorder

from kedge.server.errors import BadUsage
from kedge.server.http.access import AccessLog, Exchange, LoggedConnection, check_format
from kedge.server.http.connection import Connection
from kedge.server.server import ModelServer

ONE = Exchange(
    "127.0.0.1", "GET", "/v2", "a=b", 404, 12, 1.5,
    [(b"user-agent", b"curl")], [(b"x-request-id", b"7")],
)  # fmt: skip


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ('%(h)s "%(r)s" %(s)s %(b)s', '127.0.0.1 "GET /v2?a=b HTTP/1.1" 404 12'),
        ("%(m)s %(U)s %(q)s %(H)s %(st)s", "GET /v2 a=b HTTP/1.1 Not Found"),
        ("%(T)s %(M)s %(D)s %(L)s", "1 1500 1500000 1.500000"),
        ("%(a)s %(f)s %({user-agent}i)s %({x-request-id}o)s", "curl - curl 7"),
        ("100%% %(l)s", "100% -"),
    ],
)
async def test_placeholders(form: str, line: str) -> None:
    lines: list[str] = []
    log = AccessLog(form, asyncio.get_running_loop(), lines.append)
    log.note(ONE)
    log.flush()
    assert lines == [line + "\n"]


def test_an_unknown_one_is_refused_at_the_start() -> None:
    with pytest.raises(BadUsage, match=r"%\(zzz\)s is not known"):
        check_format("%(zzz)s")


async def test_each_answer_is_a_line() -> None:
    server = ModelServer(latency_log=False)
    server._shared.tick(0.0, b"now")
    await server.repository.start(Doubler("fast"))
    lines: list[str] = []
    form = '%(r)s %(s)s %(b)s "%({x-a}i)s" %({x-request-id}o)s'
    access = AccessLog(form, asyncio.get_running_loop(), lines.append)
    connection = LoggedConnection(server._shared, asyncio.get_running_loop(), access)
    connection.connection_made(Recorder())
    connection.data_received(predict("fast", 1, "X-A: me", "X-Request-Id: 7"))
    connection.data_received(post("/v1/models/none:predict", b"{}", "X-Request-Id: 8"))
    for _ in range(1000):
        if len(access._lines) == 2:
            break
        await asyncio.sleep(0)
    access.flush()
    first, second = sorted("".join(lines).splitlines())
    assert first == 'POST /v1/models/fast:predict HTTP/1.1 200 23 "me" 7'
    assert second.startswith("POST /v1/models/none:predict HTTP/1.1 404 ")
    assert not connection._began


@pytest.mark.parametrize(
    ("peer", "client"), [("::ffff:10.0.0.1", "10.0.0.1"), ("fd00::1", "fd00::1")]
)
def test_a_client_is_called_by_the_address_it_came_by(peer: str, client: str) -> None:
    loop = asyncio.new_event_loop()
    connection = Connection(ModelServer(latency_log=False)._shared, loop)
    transport = Recorder()
    transport._extra["peername"] = (peer, 7)  # type: ignore[attr-defined]  # asyncio's own
    connection.connection_made(transport)
    assert connection.client == (client, 7)
    loop.close()
