"""Who may start, and who goes first."""

from __future__ import annotations

import asyncio

from kedge.cluster.local.node.host import StartSlots


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_a_request_waits_for_goes_first() -> None:
    slots, begun = StartSlots(1), []

    async def start(name: str, *, urgent: bool = False) -> None:
        release = await slots.take(urgent=urgent)
        begun.append(name)
        release()

    release = await slots.take()
    others = [asyncio.create_task(start(f"proof {n}")) for n in range(2)]
    await settle()
    woken = asyncio.create_task(start("woken", urgent=True))
    await settle()
    assert begun == []
    release()
    release()  # Twice is once.
    await asyncio.gather(woken, *others)
    assert begun == ["woken", "proof 0", "proof 1"]


async def test_who_gives_up_leaves_his_place_to_the_next() -> None:
    slots = StartSlots(1)
    release = await slots.take()
    impatient = asyncio.create_task(slots.take())
    patient = asyncio.create_task(slots.take())
    await settle()
    impatient.cancel()
    release()
    (await asyncio.wait_for(patient, 5))()
    (await asyncio.wait_for(slots.take(), 5))()


async def test_a_place_given_to_one_who_gave_up_at_that_moment_is_not_lost() -> None:
    slots = StartSlots(1)
    release = await slots.take()
    late = asyncio.create_task(slots.take())
    await settle()
    release()
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    (await asyncio.wait_for(slots.take(), 5))()


async def test_who_hangs_holds_up_nobody() -> None:
    slots = StartSlots(1, longest=0.01)
    await slots.take()
    (await asyncio.wait_for(slots.take(), 5))()
