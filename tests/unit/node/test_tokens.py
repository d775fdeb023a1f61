"""Service accounts' tokens: asked once, renewed in time, bound to their pod."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.node.tokens import Tokens
from kedge.lib.clock import format_time
from kedge.testing.clock import FakeClock

POD: Object = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u1"},
    "spec": {"serviceAccountName": "runner"},
}


class Issuer:
    """Tokens that last as long as they are asked for."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked: list[tuple[str, str, Any]] = []

    async def __call__(self, account: str, namespace: str, spec: Object) -> Object:
        self.asked.append((account, namespace, spec))
        ends = self.clock.now() + timedelta(seconds=spec["expirationSeconds"])
        return {"token": f"t{len(self.asked)}", "expirationTimestamp": format_time(ends)}


async def test_a_token_is_bound_to_its_pod() -> None:
    clock = FakeClock()
    issuer = Issuer(clock)
    source = {"path": "token", "audience": "vault", "expirationSeconds": 600}
    assert await Tokens(issuer, clock).get(POD, source) == b"t1"
    ((account, namespace, spec),) = issuer.asked
    assert (account, namespace) == ("runner", "ns")
    assert spec["audiences"] == ["vault"]
    assert spec["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u1"}


async def test_a_token_is_renewed_before_it_ends() -> None:
    clock = FakeClock()
    tokens = Tokens(Issuer(clock), clock)
    source = {"path": "token", "expirationSeconds": 1000}
    assert await tokens.get(POD, source) == b"t1"
    await clock.advance(700)
    assert await tokens.get(POD, source) == b"t1"
    await clock.advance(110)
    assert await tokens.get(POD, source) == b"t2"


async def test_another_audience_is_another_token_and_a_gone_pod_has_none() -> None:
    clock = FakeClock()
    issuer = Issuer(clock)
    tokens = Tokens(issuer, clock)
    await tokens.get(POD, {"path": "a"})
    await tokens.get(POD, {"path": "b", "audience": "vault"})
    assert len(issuer.asked) == 2
    tokens.forget("u1")
    await tokens.get(POD, {"path": "a"})
    assert len(issuer.asked) == 3
