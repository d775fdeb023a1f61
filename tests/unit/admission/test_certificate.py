"""The webhook's certificate over ten years, by a clock of the test's own."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from kedge.admission.certificate import CertificateKeeper
from kedge.api.scheme import SECRET, VALIDATING_WEBHOOK_CONFIGURATION, Kind
from kedge.cluster.base import PatchType
from kedge.cluster.errors import Conflict, NotFound
from kedge.lib.certificates import Pair


class Years:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")


class Few:
    """The two objects that the keeper reads and writes."""

    def __init__(self) -> None:
        self.secret: dict[str, Any] | None = None
        self.bundles: list[str | None] = [None, None]
        self.writes = 0

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any]:
        if kind == SECRET:
            if self.secret is None:
                raise NotFound(name)
            return self.secret
        assert kind == VALIDATING_WEBHOOK_CONFIGURATION
        hooks = [{"clientConfig": {"caBundle": one} if one else {}} for one in self.bundles]
        return {"metadata": {"resourceVersion": "1"}, "webhooks": hooks}

    async def create(self, kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
        return await self.replace(kind, obj)

    async def replace(self, kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
        self.writes += 1
        version = str(self.writes)
        if self.secret is not None and obj["metadata"] != self.secret["metadata"]:
            raise Conflict(obj["metadata"]["name"])
        self.secret = {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}
        return self.secret

    async def patch(
        self, kind: Kind, name: str, patch: Any, *, type: PatchType = PatchType.MERGE
    ) -> dict[str, Any]:
        assert type is PatchType.JSON
        for step in patch[1:]:
            self.bundles[int(step["path"].split("/")[2])] = step["value"]
        return {}


@pytest.fixture
def years() -> Years:
    return Years()


def keeper(cluster: Few, clock: Years, used: list[Pair]) -> CertificateKeeper:
    return CertificateKeeper(cluster, "kedge", used.append, clock=clock)  # type: ignore[arg-type]  # no more of a Cluster is needed


def trusted(cluster: Few) -> list[x509.Certificate]:
    assert cluster.bundles[0] is not None
    assert cluster.bundles[0] == cluster.bundles[1]
    return x509.load_pem_x509_certificates(base64.b64decode(cluster.bundles[0]))


async def test_it_is_made_once_for_all_processes(years: Years) -> None:
    cluster = Few()
    one: list[Pair] = []
    two: list[Pair] = []
    first, second = keeper(cluster, years, one), keeper(cluster, years, two)
    for _ in range(2):
        await first.look()
        await second.look()
    assert one == two
    assert len(one) == 1
    assert cluster.writes == 1
    served = x509.load_pem_x509_certificate(one[0].certificate)
    served.verify_directly_issued_by(trusted(cluster)[0])
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kedge-webhook.kedge.svc" in names.get_values_for_type(x509.DNSName)


async def test_it_is_renewed_before_it_ends_and_what_was_is_trusted_meanwhile(
    years: Years,
) -> None:
    cluster = Few()
    used: list[Pair] = []
    one = keeper(cluster, years, used)
    authorities = set()
    for _ in range(150):
        before = list(used[-1:])
        await one.look()
        assert used[-1].ends > years.now() + timedelta(days=29)
        roots = trusted(cluster)
        authorities |= {root.serial_number for root in roots}
        for pair in (*before, used[-1]):
            served = x509.load_pem_x509_certificate(pair.certificate)
            assert any(_issued(served, root) for root in roots)
        years.time += timedelta(days=25)
    assert len(authorities) == 2
    assert len(trusted(cluster)) == 2


async def test_a_spoilt_secret_is_made_anew(years: Years) -> None:
    cluster = Few()
    used: list[Pair] = []
    one = keeper(cluster, years, used)
    await one.look()
    assert cluster.secret is not None
    cluster.secret["data"] = {"tls.crt": "eA=="}
    await one.look()
    assert len(used) == 2
    assert len(trusted(cluster)) == 1


def _issued(served: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        served.verify_directly_issued_by(root)
    except Exception:
        return False
    return True
