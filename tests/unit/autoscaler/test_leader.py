"""Finding the autoscaler by the Lease that its process holds."""

from __future__ import annotations

import pytest

from kedge.api.scheme import LEASE, SECRET
from kedge.autoscaler.leader import (
    LEASE_NAME,
    NoLeader,
    address_of,
    ensure_token,
    find_leader,
    make_identity,
)
from kedge.cluster.local.admission import AdmitAll
from kedge.cluster.local.cluster import LocalCluster
from kedge.cluster.local.store import Store


@pytest.mark.parametrize("address", ["10.1.2.3:9444", "[fd00::1]:9444"])
def test_an_identity_carries_an_address(address: str) -> None:
    assert address_of(make_identity("kedge-controller-5d4f-x2x", address, "17")) == address


def test_other_identities_carry_none() -> None:
    assert address_of("host_17") == "" == address_of("")


async def test_the_holder_is_found_with_the_shared_token() -> None:
    store = Store(":memory:")
    cluster = LocalCluster(store, AdmitAll())
    lease = {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {"name": LEASE_NAME, "namespace": "kedge"},
        "spec": {"holderIdentity": ""},
    }
    stored = await cluster.create(LEASE, lease)
    await ensure_token(cluster, "kedge")
    secret = await cluster.get(SECRET, "kedge-signals", "kedge")
    await ensure_token(cluster, "kedge")
    assert await cluster.get(SECRET, "kedge-signals", "kedge") == secret
    find = find_leader(cluster, "kedge")
    with pytest.raises(NoLeader, match="nobody"):
        await find()
    spec = {"holderIdentity": make_identity("a", "10.0.0.1:9444", "1")}
    await cluster.replace(LEASE, {**stored, "spec": spec})
    peer = await find()
    assert peer.target == "10.0.0.1:9444"
    assert len(peer.token) >= 32
    store.close()
