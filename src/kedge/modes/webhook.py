"""Serves the admission review over TLS, in every controller process."""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from kedge.admission.certificate import CertificateKeeper
from kedge.admission.review import AdmissionReview
from kedge.admission.webhook import answer
from kedge.api.scheme import CLUSTER_SERVING_RUNTIME, SERVING_RUNTIME, Kind
from kedge.cluster.base import Cluster, Object
from kedge.lib.asgi import Receive, Scope, Send
from kedge.lib.certificates import Pair
from kedge.modes.http import HttpServer
from kedge.reconcile import Informer
from kedge.settings.installation import WEBHOOK_PATH
from kedge.settings.serving import ServingConfig

_LARGEST = 8 << 20
"""Bytes of a review: an object of the largest size that etcd takes, old and new, and some."""


class Webhook:
    """Reviews what is applied.

    Args:
        config: the settings of this moment.
        namespace: where Kedge's own objects are.
        port: where the API server asks.
    """

    def __init__(
        self, cluster: Cluster, config: Callable[[], ServingConfig], namespace: str, port: int
    ) -> None:
        self._informers = {
            kind: Informer(cluster, kind) for kind in (SERVING_RUNTIME, CLUSTER_SERVING_RUNTIME)
        }
        self._review = AdmissionReview(config, self._related)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._keeper = CertificateKeeper(cluster, namespace, self._use)
        self._server = HttpServer(self._answer, port, self._tls)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context lasts; what fails here keeps no controller from working."""
        tasks = [asyncio.ensure_future(one.run()) for one in self._informers.values()]
        tasks.append(asyncio.ensure_future(self._keeper.run()))
        try:
            async with self._server.running():
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _related(self, kind: Kind, namespace: str | None) -> list[Object]:
        return self._informers[kind].list(namespace)

    def _use(self, pair: Pair) -> None:
        """New connections get this certificate."""
        # The ssl module reads a key pair from files only.
        with tempfile.NamedTemporaryFile() as file:
            file.write(pair.certificate + pair.key)
            file.flush()
            self._tls.load_cert_chain(file.name)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != WEBHOOK_PATH or scope["method"] != "POST":
            await _send(send, 404, b'{"message": "reviews are posted to /validate"}')
            return
        body = b""
        more = True
        while more and len(body) <= _LARGEST:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            await _send(send, 400, b'{"message": "no AdmissionReview"}')
            return
        await _send(send, 200, json.dumps(answer(self._review, asked)).encode())


async def _send(send: Send, code: int, data: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": data})
