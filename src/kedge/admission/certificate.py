"""The webhook's certificate: made by Kedge, kept in a Secret, renewed long before it ends.

Every controller process uses the same one. A new authority is trusted beside the old one until all
processes have a certificate by it, so that a renewal refuses nobody.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from kedge.api.scheme import SECRET, VALIDATING_WEBHOOK_CONFIGURATION
from kedge.cluster.base import Cluster, Object, PatchType
from kedge.cluster.errors import AlreadyExists, ApiError, Conflict, NotFound
from kedge.lib.certificates import Pair, make_authority, make_server_certificate
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.settings.installation import ADMISSION, WEBHOOK

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lifetimes:
    """How long certificates last, and how long before their end they are renewed."""

    authority: timedelta = timedelta(days=3650)
    server: timedelta = timedelta(days=90)
    renew_authority: timedelta = timedelta(days=365)
    renew_server: timedelta = timedelta(days=30)
    look: float = 600.0


@dataclass(frozen=True)
class Held:
    """What the Secret holds.

    Attributes:
        trusted: the authorities that clients shall trust, as PEM; the newest first.
    """

    authority: Pair
    server: Pair
    trusted: bytes


class CertificateKeeper:
    """Keeps the Secret, this process's copy of it, and what the API server trusts.

    Args:
        use: told of each certificate that is to be served from now on.
        namespace: of the Secret and of the webhook's Service.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        use: Callable[[Pair], None],
        *,
        lifetimes: Lifetimes = Lifetimes(),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._use = use
        self._lifetimes = lifetimes
        self._clock = clock
        self._used: Pair | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except (ApiError, OSError) as error:
                log.warning("the webhook's certificate: %s", error)
                await self._clock.sleep(min(10.0, self._lifetimes.look))
            else:
                await self._clock.sleep(self._lifetimes.look)

    async def look(self) -> None:
        """Renew what is due, serve what is new, and have it trusted."""
        held = await self._ensure()
        if held.server != self._used:
            self._use(held.server)
            self._used = held.server
            log.info("the webhook's certificate is valid until %s", held.server.ends)
        await self._have_trusted(held.trusted)

    async def _ensure(self) -> Held:
        """What the Secret holds, after putting right what is missing or ends soon."""
        while True:
            try:
                secret = await self._cluster.get(SECRET, WEBHOOK, self._namespace)
            except NotFound:
                secret = None
            held = None if secret is None else _read(secret)
            good = self._renewed(held)
            if good == held:
                return good
            try:
                await self._write(secret, good)
            except (AlreadyExists, Conflict):
                continue  # Another process was first; it made a good one.
            return good

    def _renewed(self, held: Held | None) -> Held:
        now, times = self._clock.now(), self._lifetimes
        if held is None or held.authority.ends - now < times.renew_authority:
            authority = make_authority("kedge-webhook-ca", now, times.authority)
            before = b"" if held is None else held.authority.certificate
            return Held(authority, self._make_server(authority), authority.certificate + before)
        if held.server.ends - now < times.renew_server:
            return Held(held.authority, self._make_server(held.authority), held.trusted)
        return held

    def _make_server(self, authority: Pair) -> Pair:
        full = f"{WEBHOOK}.{self._namespace}"
        return make_server_certificate(
            authority,
            self._clock.now(),
            self._lifetimes.server,
            names=(WEBHOOK, full, f"{full}.svc", "localhost"),
            hosts=("127.0.0.1",),
        )

    async def _write(self, before: Object | None, held: Held) -> None:
        metadata = {
            "name": WEBHOOK,
            "namespace": self._namespace,
            "labels": {
                "app.kubernetes.io/managed-by": "kedge",
                "app.kubernetes.io/part-of": "kedge",
            },
        }
        secret = {
            "apiVersion": SECRET.api_version,
            "kind": SECRET.kind,
            "metadata": metadata if before is None else before["metadata"],
            "type": "Opaque" if before is None else before.get("type", "Opaque"),
            "data": {key: base64.b64encode(value).decode() for key, value in _data(held).items()},
        }
        if before is None:
            await self._cluster.create(SECRET, secret)
        else:
            await self._cluster.replace(SECRET, secret)

    async def _have_trusted(self, trusted: bytes) -> None:
        try:
            found = await self._cluster.get(VALIDATING_WEBHOOK_CONFIGURATION, ADMISSION)
        except NotFound:
            return  # Reviews are switched off.
        bundle = base64.b64encode(trusted).decode()
        patch = [
            {"op": "add", "path": f"/webhooks/{place}/clientConfig/caBundle", "value": bundle}
            for place, webhook in enumerate(found.get("webhooks") or ())
            if webhook["clientConfig"].get("caBundle") != bundle
        ]
        if patch:
            version = found["metadata"]["resourceVersion"]
            test = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
            await self._cluster.patch(
                VALIDATING_WEBHOOK_CONFIGURATION, ADMISSION, [test, *patch], type=PatchType.JSON
            )


def _data(held: Held) -> dict[str, bytes]:
    return {
        "ca.crt": held.trusted,
        "authority.crt": held.authority.certificate,
        "authority.key": held.authority.key,
        "tls.crt": held.server.certificate,
        "tls.key": held.server.key,
    }


def _read(secret: Object) -> Held | None:
    """What a Secret holds; None where that is nothing that can be used."""
    try:
        data = {k: base64.b64decode(v) for k, v in (secret.get("data") or {}).items()}
        held = Held(
            Pair(data["authority.crt"], data["authority.key"]),
            Pair(data["tls.crt"], data["tls.key"]),
            data["ca.crt"],
        )
        # Raises where they are no certificates.
        _ = held.authority.ends, held.server.ends
    except (KeyError, ValueError, binascii.Error):
        return None
    return held
