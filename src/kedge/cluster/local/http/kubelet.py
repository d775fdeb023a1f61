"""What an API server asks of a node: the logs of its pods, as a kubelet gives them.

Whether an API server has a certificate to show, and from whom, is not known here. So this answers
only to processes of this machine that belong to root or to the agent's own user, who could read the
files of the logs as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kedge.cluster.base import Object
from kedge.cluster.errors import BadRequest
from kedge.cluster.local.http.logs import log_options, stream
from kedge.cluster.local.node.peers import owner_of
from kedge.cluster.local.podlogs import PodLogs
from kedge.lib.clock import SYSTEM_CLOCK, Clock

FindPod = Callable[[str, str], Object | None]
"""A pod of this node, by namespace and name."""
Allow = Callable[[Request], bool]


def is_neighbour(request: Request) -> bool:
    """Whether a process of root's or of our own user asks, from this machine."""
    client, server = request.client, request.scope.get("server")
    if client is None or server is None:
        return False
    return owner_of((client.host, client.port), (server[0], server[1])) in (0, os.geteuid())


def make_app(
    logs: PodLogs, find: FindPod, *, allow: Allow = is_neighbour, clock: Clock = SYSTEM_CLOCK
) -> Starlette:
    """An application for `/containerLogs`; of all else it says that it has it not."""

    async def read_log(request: Request) -> Response:
        if not allow(request):
            return PlainTextResponse("this node gives logs to its own machine alone\n", 403)
        namespace, name, container = (
            request.path_params[part] for part in ("namespace", "pod", "container")
        )
        pod = find(namespace, name)
        if pod is None:
            return PlainTextResponse(f"pod {namespace}/{name} is not on this node\n", 404)
        try:
            options = log_options(request.query_params, container, clock)
            return stream(logs.open(pod, lambda: find(namespace, name), options))
        except BadRequest as error:
            return PlainTextResponse(f"{error.message}\n", 400)

    async def refuse(request: Request) -> Response:
        return PlainTextResponse("pods are processes here: this node gives logs alone\n", 501)

    log_path = "/containerLogs/{namespace}/{pod}/{container}"
    methods = ["GET", "POST", "PUT", "DELETE"]
    return Starlette(
        routes=[Route(log_path, read_log), Route("/{path:path}", refuse, methods=methods)]
    )
