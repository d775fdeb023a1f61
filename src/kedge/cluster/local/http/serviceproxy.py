"""`/api/v1/namespaces/NS/services/NAME:PORT/proxy/...`: what Kedge's own parts show of themselves.

On Kubernetes the API server forwards such a request to a pod of the Service. Here the parts run in
the process that answers, so they are called.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from kedge.cluster.errors import NotFound


class ServiceProxies:
    """The parts that can be reached, by namespace and name of their Service."""

    def __init__(self, apps: Mapping[tuple[str, str], ASGIApp]) -> None:
        self._apps = dict(apps)

    def find(self, path: str) -> ASGIApp | None:
        """What answers that path; None when it is no such path.

        Raises:
            NotFound: it is, but nothing answers for that Service.
        """
        parts = path.split("/", 8)
        match parts:
            case ["", "api", "v1", "namespaces", namespace, "services", service, "proxy", *rest]:
                app = self._apps.get((namespace, _name(service)))
                if app is None:
                    raise NotFound(
                        f"the Service {namespace}/{_name(service)} has no proxy on the local"
                        " cluster. Fix: Send the request through the gateway."
                    )
                return _mounted(app, "/".join(parts[:8]), "/" + "/".join(rest))
        return None


def _name(service: str) -> str:
    """The name in `[scheme:]name[:port]`."""
    parts = service.split(":")
    return parts[1] if len(parts) == 3 else parts[0]


def _mounted(app: ASGIApp, prefix: str, path: str) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        own = {**scope, "root_path": prefix, "path": path, "raw_path": path.encode()}
        await app(own, receive, send)

    return serve
