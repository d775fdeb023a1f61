"""`kedge serve RUNTIME ...`: from a command line to a serving process.

The runtime's module is found by name when it is needed, so that the server depends on no
framework, and a framework is imported by the process that serves it only.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

from kedge.server import phases
from kedge.server.errors import BadUsage, StartFailure, out_of_memory
from kedge.server.folders import Folders, Runtime
from kedge.server.log import configure, logger
from kedge.server.model import Model
from kedge.server.options import Options, parse

if TYPE_CHECKING:
    from kedge.server.server import ModelServer

RUNTIMES = (
    "sklearn", "xgboost", "lightgbm", "catboost", "onnx", "pytorch", "huggingface", "mlflow",
    "tensorflow", "paddle", "pmml", "python", "predictive",
)  # fmt: skip
_TERMINATION_LOG = Path("/dev/termination-log")


def serve(argv: Sequence[str]) -> int:
    """Serves until told to stop. The exit code: 0 after an orderly end, 1 if it cannot start."""
    if "--template" in argv:
        from kedge.server.template import template

        return template(argv)
    return guarded(lambda: parse(argv), partial(_run, argv))


def guarded(read: Callable[[], Options], run: Callable[[Options], None]) -> int:
    """Runs a server to its end; a start that fails is told in one line."""
    options = None
    try:
        options = read()
        run(options)
    except StartFailure as failure:
        if options is not None and options.seat is not None:
            return 1  # The parent has been told, and tells.
        return _tell(failure, options.termination_log if options is not None else "")
    except MemoryError:
        return _tell(out_of_memory(), options.termination_log if options is not None else "")
    return 0


def _tell(failure: StartFailure, termination_log: str) -> int:
    line = failure.line()
    print(line, file=sys.stderr, flush=True)
    path = Path(termination_log) if termination_log else _TERMINATION_LOG
    try:
        if termination_log or path.is_file():
            path.write_text(line + "\n")
    except OSError as error:
        print(f"The termination log {path} cannot be written: {error}", file=sys.stderr)
    return 1


def _leave(number: int, frame: FrameType | None) -> None:
    """A server that is still loading has no request to finish."""
    sys.exit(128 + number)


def prepare(options: Options) -> None:
    """What comes before any model: logging, and an end to be had while it loads."""
    signal.signal(signal.SIGTERM, _leave)
    if options.log_config_file:
        from kedge.server.logging import configure_logging

        configure_logging(options.log_config_file)
    elif options.configure_logging:
        configure(options.log_level, options.log_format)
    if options.payloads is not None:
        from kedge.server.payloads.sinks import open_sink

        open_sink(options.payloads).close()  # What is wrong with it is told before a model loads.
    for text in options.unheeded if options.seat is None else ():
        logger.warning("%s", text)


def _run(argv: Sequence[str], options: Options) -> None:
    phases.begin()
    prepare(options)
    runtime = find_runtime(options.runtime)
    if options.seat is None and (unread := _unread(runtime, options)):
        logger.warning("ignored, for no one reads them: %s", " ".join(unread))
    from kedge.server.server import ModelServer

    folders = Folders(runtime, options)
    server = ModelServer(
        bind_address=options.bind_address,
        http_port=options.http_port,
        grpc_port=options.grpc_port if options.enable_grpc else None,
        grace_seconds=options.grace_seconds,
        loader=folders.load,
        predictor=options.predictor,
    )
    server.configure(options)
    command = [sys.executable, "-m", "kedge", "serve", *argv]
    forkable = bool(getattr(runtime, "FORKABLE", False))
    run_server(server, options, folders.models, command, forkable=forkable)


def run_server(
    server: ModelServer,
    options: Options,
    models: Callable[[], Sequence[Model]],
    command: Sequence[str],
    *,
    forkable: bool = False,
) -> None:
    """Runs this process's part: the server, or one of the workers, or the parent of them all."""
    loop = partial(new_loop, options)
    if options.seat is not None or options.workers > 1:
        from kedge.server.workers import start

        if options.seat is None:
            start.supervise(options, command, forkable=forkable)
        else:
            start.work(options.seat, options, server, models, loop)
        return
    server.bind()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(server.serve(models()))


def new_loop(options: Options) -> asyncio.AbstractEventLoop:
    """A loop of the chosen kind, with the pool of threads that was asked for."""
    loop = (loop_factory(options.event_loop) or asyncio.new_event_loop)()
    if options.executor_threads:
        loop.set_default_executor(ThreadPoolExecutor(options.executor_threads, "kedge"))
    return loop


def loop_factory(choice: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if choice == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if choice == "uvloop":
            raise BadUsage(
                "--event-loop uvloop: uvloop is not installed.", fix="pip install uvloop."
            ) from None
        return None
    return uvloop.new_event_loop


def find_runtime(name: str) -> Runtime:
    if name not in RUNTIMES:
        raise BadUsage(f"There is no runtime {name!r}.", fix=f"Use one of {', '.join(RUNTIMES)}.")
    return cast(Runtime, import_module(f"kedge.runtimes.{name}"))


def _unread(runtime: Runtime, options: Options) -> Sequence[str]:
    """Arguments that neither the server nor the runtime knows."""
    flags = getattr(runtime, "flags", None)
    return flags().left_over(options) if flags is not None else options.unknown
