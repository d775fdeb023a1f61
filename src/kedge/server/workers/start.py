"""From a command line to one process, or to several."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from kedge.server.log import logger
from kedge.server.model import Model
from kedge.server.options import Options
from kedge.server.server import ModelServer
from kedge.server.workers.seat import Seat, share, take
from kedge.server.workers.wire import Gone, Refused

Models = Callable[[], Sequence[Model]]
Factory = Callable[[], asyncio.AbstractEventLoop]


def supervise(options: Options, command: Sequence[str], *, forkable: bool) -> None:
    """Runs the workers to their end."""
    from kedge.server.workers.parent import Parent, Plan

    workers = options.workers
    if 0 < options.limits.concurrency < workers:
        workers = options.limits.concurrency
        logger.warning("%d workers, for --max_concurrency allows no more", workers)
    plan = Plan(
        command=command,
        workers=workers,
        preload=forkable if options.preload is None else options.preload,
        address=options.bind_address,
        http_port=options.http_port,
        grpc_port=options.grpc_port if options.enable_grpc else None,
        grace_seconds=options.grace_seconds,
    )

    async def main() -> None:
        await Parent(plan).run()

    asyncio.run(main())


def work(seat: Seat, options: Options, server: ModelServer, models: Models, loop: Factory) -> None:
    """One worker's whole life; or a preloader's, out of which workers come."""
    from kedge.server.workers.member import Member

    take(seat)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal tells all; the parent tells us.
    if seat.role == "preloader":
        from kedge.server.workers.preloader import Preloader

        held = seat.held is not None
        seat = Preloader(seat, server).run(() if held else models())
        take(seat)
        models = partial(tuple[Model, ...], ())
        options = replace(options, seat=seat)
    limits = share(options.limits, seat.slot, seat.of)
    server.configure(replace(options, limits=limits))
    server.repository.limit(limits)

    async def main() -> None:
        await Member(seat, server).run(models)

    with asyncio.Runner(loop_factory=loop) as runner:
        try:
            runner.run(main())
        except (Gone, Refused) as error:
            logger.info("worker %d ends: %s", seat.slot, error)
