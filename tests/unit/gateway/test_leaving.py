"""How a replica ends whose pod is deleted."""

from __future__ import annotations

from typing import cast

from kedge.gateway.admin import AdminError, EnvoyAdmin
from kedge.gateway.leaving import SPREAD_SECONDS, Leaving
from kedge.gateway.members import Member, Members
from kedge.lib.clock import SystemClock


class Clock(SystemClock):
    """Goes on when somebody sleeps; `then` happens at these times."""

    def __init__(self) -> None:
        self.time = 0.0

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class Admin:
    """An Envoy whose requests end at a certain time."""

    def __init__(self, clock: Clock, ends: float) -> None:
        self.clock, self.ends = clock, ends
        self.failing = False
        self.away = False

    async def post(self, path: str) -> bytes:
        assert path == "/healthcheck/fail"
        self.failing = True
        return b"OK"

    async def get(self, path: str) -> bytes:
        if self.away:
            error = AdminError("It is gone.")
            error.away = True
            raise error
        active = int(self.clock.time < self.ends)
        return (
            f"http.outside.downstream_rq_active: {active}\n"
            "http.pods.downstream_rq_active: 0\n"
        ).encode()  # fmt: skip


def make_leaving(ends: float, *, terminating: bool = True) -> tuple[Leaving, Clock, Admin]:
    clock = Clock()
    admin = Admin(clock, ends)
    members = Members("a")
    members.take((Member("a", "10.0.0.1", "IPv4", 8888, 9445, not terminating, terminating),))
    envoy = cast(EnvoyAdmin, admin)
    return Leaving(members, envoy, drain_seconds=100, clock=clock), clock, admin


async def test_it_waits_for_the_last_request() -> None:
    leaving, clock, admin = make_leaving(42)
    assert await leaving.wait()
    assert 42 <= clock.time < 43
    assert admin.failing


async def test_without_requests_it_waits_until_all_have_heard() -> None:
    leaving, clock, _ = make_leaving(0)
    assert await leaving.wait()
    assert SPREAD_SECONDS <= clock.time < SPREAD_SECONDS + 1


async def test_it_does_not_wait_for_ever() -> None:
    leaving, clock, _ = make_leaving(1e9)
    assert await leaving.wait()
    assert 100 <= clock.time < 101


async def test_without_an_envoy_there_is_nothing_to_wait_for() -> None:
    leaving, clock, admin = make_leaving(1e9)
    admin.away = True
    assert await leaving.wait()
    assert clock.time < 1


async def test_a_process_that_is_only_started_anew_leaves_envoy_alone() -> None:
    leaving, clock, admin = make_leaving(1e9, terminating=False)
    assert not await leaving.wait()
    assert clock.time < 4
    assert not admin.failing
