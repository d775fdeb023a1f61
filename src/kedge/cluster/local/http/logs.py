"""Pod logs, as plain text, as they are written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from kedge.cluster.errors import BadRequest
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.http.bodies import flag, number
from kedge.cluster.local.http.target import Target
from kedge.cluster.local.podlogs import LogOptions
from kedge.lib.clock import Clock


def read_log(cluster: LocalCluster, clock: Clock, target: Target, request: Request) -> Response:
    """The answer to GET of a pod's `log`."""
    query = request.query_params
    options = log_options(query, query.get("container") or None, clock)
    return stream(cluster.read_log(target.name or "", target.namespace or "", options))


def log_options(query: Mapping[str, str], container: str | None, clock: Clock) -> LogOptions:
    """What a query asks of a container's log."""
    since: datetime | None = None
    if seconds := number(query, "sinceSeconds"):
        since = clock.now() - timedelta(seconds=seconds)
    elif text := query.get("sinceTime"):
        try:
            since = datetime.fromisoformat(text)
        except ValueError:
            raise BadRequest(f"sinceTime={text!r} in the query is no RFC 3339 time") from None
    return LogOptions(
        container=container,
        follow=flag(query, "follow"),
        previous=flag(query, "previous"),
        tail=number(query, "tailLines"),
        since=since,
        limit=number(query, "limitBytes"),
        timestamps=flag(query, "timestamps"),
    )


def stream(pieces: AsyncIterator[bytes]) -> Response:
    """An answer that goes on as the log does."""
    return StreamingResponse(_with_headers_first(pieces), media_type="text/plain")


async def _with_headers_first(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b""
    async for piece in pieces:
        yield piece
