"""Service accounts' tokens for pods, asked of the API and renewed before they end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from kedge.cluster.base import Object
from kedge.lib.clock import SYSTEM_CLOCK, Clock

_DEFAULT_SECONDS = 3600
_RENEWED_AFTER = 0.8
"""Share of a token's life, as the kubelet has it."""
_LONGEST = timedelta(hours=24)


class RequestToken(Protocol):
    """Has the API make a token (`KubernetesCluster.request_token`)."""

    async def __call__(self, account: str, namespace: str, spec: Object) -> Object: ...


@dataclass(frozen=True)
class _Token:
    text: bytes
    renew_at: datetime


class Tokens:
    """The tokens of this node's pods; each is bound to its pod and worth nothing without it."""

    def __init__(self, request: RequestToken, clock: Clock = SYSTEM_CLOCK) -> None:
        self._request = request
        self._clock = clock
        self._known: dict[tuple[str, str, str, int], _Token] = {}
        self._asking = asyncio.Lock()

    async def get(self, pod: Object, source: Object) -> bytes:
        """The token that a projected volume's `serviceAccountToken` asks for.

        Raises:
            ApiError: the API refuses it.
        """
        uid = pod["metadata"]["uid"]
        audience = source.get("audience") or ""
        seconds = int(source.get("expirationSeconds") or _DEFAULT_SECONDS)
        account = pod["spec"].get("serviceAccountName") or "default"
        key = (uid, account, audience, seconds)
        async with self._asking:
            known = self._known.get(key)
            if known is None or self._clock.now() >= known.renew_at:
                known = self._known[key] = await self._ask(pod, account, audience, seconds)
        return known.text

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        for key in [key for key in self._known if key[0] == uid]:
            del self._known[key]

    async def _ask(self, pod: Object, account: str, audience: str, seconds: int) -> _Token:
        metadata = pod["metadata"]
        spec: Object = {
            "audiences": [audience] if audience else [],
            "expirationSeconds": seconds,
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }
        began = self._clock.now()
        made = await self._request(account, metadata["namespace"], spec)
        life = datetime.fromisoformat(made["expirationTimestamp"]) - began
        return _Token(made["token"].encode(), began + min(life * _RENEWED_AFTER, _LONGEST))
