"""The server's command line and environment: KServe's flags, so that its manifests run as they are.

This is the one place where `argv` and the environment are read.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from kedge.server.aliases import translated
from kedge.server.batching import DEFAULT_BATCHING, Batching
from kedge.server.errors import BadUsage
from kedge.server.limits import DEFAULT_LIMITS, Limits
from kedge.server.log import LogForm
from kedge.server.predictor import PredictorConfig
from kedge.server.tracing import is_asked_for
from kedge.server.workers.seat import Seat, read

MOST_WORKERS = 64
USUAL_GRACE = 60.0
"""Seconds that KServe's routes let a request take unless told otherwise."""

if TYPE_CHECKING:
    from kedge.server.payloads.options import PayloadOptions

_LOGGER_CERTIFICATES = "/etc/tls/logger"
UNHEEDED = {
    "--max_threads": "gRPC needs no threads here.",
    "--protocol": "every protocol is served; --predictor_protocol says what a predictor speaks.",
}
CERTIFICATES = {
    "--ssl_certfile": "KSERVE_TLS_CERT_FILE",
    "--ssl_keyfile": "KSERVE_TLS_KEY_FILE",
}
_TRUE = {"y", "yes", "t", "true", "on", "1"}
_FALSE = {"n", "no", "f", "false", "off", "0"}


@dataclass(frozen=True)
class Options:
    """How one server process runs.

    Attributes:
        runtime: a module of `kedge.runtimes`.
        model_dir: the folder with the model's files.
        bind_address: where to listen; every address of IPv6 and IPv4 when empty. A pod of the local
            node has an address of its own.
        enable_latency_logging: one line per request.
        log_config_file: configures Python's logging in place of the server.
        log_format: of the server's own lines and those of requests.
        grace_seconds: how long requests may take to end after SIGTERM.
        nthread: threads a framework may use for one prediction.
        predict_proba: classifiers answer probabilities unless asked for another output.
        predictor: where models without a `predict` of their own forward to.
        batching: which requests are computed together.
        payloads: where what clients send and get is logged to.
        tracing: the environment asks for spans (OTEL_*).
        access_log_format: of a line per HTTP request; empty is none.
        docs: whether there is a page at `/docs`.
        executor_threads: of the event loop's pool; 0 leaves Python's number.
        idle_seconds: how long nothing must come before a server that is to end does.
        explainer: where explanations are asked for, if not of the predictor.
        unheeded: flags that mean nothing here, and why.
        batcher_response: V1 answers have the shape of KServe's batcher.
        workers: processes that share the ports.
        preload: one process loads the models and the workers are forked from it; None where the
            runtime decides.
        seat: which of several processes this is; None where a person started it.
        unknown: arguments that no one reads; the server warns of them.
    """

    runtime: str
    model_name: str = "model"
    model_dir: str = "/mnt/models"
    bind_address: str = ""
    http_port: int = 8080
    grpc_port: int = 8081
    enable_grpc: bool = True
    enable_latency_logging: bool = True
    configure_logging: bool = True
    log_config_file: str = ""
    log_format: LogForm = "text"
    event_loop: str = "auto"
    log_level: str = "INFO"
    grace_seconds: float = USUAL_GRACE
    idle_seconds: float = 0.5
    nthread: int = 1
    predict_proba: bool = False
    termination_log: str = ""
    limits: Limits = DEFAULT_LIMITS
    predictor: PredictorConfig | None = None
    batching: Batching = DEFAULT_BATCHING
    payloads: PayloadOptions | None = None
    tracing: bool = False
    batcher_response: bool = False
    access_log_format: str = ""
    docs: bool = True
    executor_threads: int = 0
    explainer: PredictorConfig | None = None
    unheeded: tuple[str, ...] = ()
    workers: int = 1
    preload: bool | None = None
    seat: Seat | None = None
    unknown: tuple[str, ...] = field(default=())


def parse(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Options:
    """The options of `kedge serve ARGV`."""
    env = os.environ if env is None else env
    return _options(*_own_parser().parse_known_args(translated(argv)), env)


@cache
def _own_parser() -> argparse.ArgumentParser:
    """Made once: a forked server finds it made."""
    return _parser()


def parse_script(
    argv: Sequence[str], env: Mapping[str, str] | None = None, **defaults: object
) -> Options:
    """The options of a script with models of its own, which has no runtime."""
    env = os.environ if env is None else env
    absent = {"runtime": "", "model_dir": Options.model_dir, "nthread": Options.nthread}
    namespace = argparse.Namespace(**absent, **defaults)
    known, unknown = script_parser().parse_known_args(list(argv), namespace)
    return _options(known, unknown, env)


def serve_parser() -> argparse.ArgumentParser:
    """The flags of `kedge serve`."""
    return _parser()


def script_parser() -> argparse.ArgumentParser:
    """The flags of every server, to be a parent of a script's own parser."""
    return _parser(script=True)


def _options(known: argparse.Namespace, unknown: list[str], env: Mapping[str, str]) -> Options:
    limits = replace(
        DEFAULT_LIMITS,
        keep_alive_seconds=float(known.timeout_keep_alive),
        binary_bytes=known.grpc_max_receive_message_length or DEFAULT_LIMITS.binary_bytes,
        send_bytes=known.grpc_max_send_message_length,
        concurrency=known.max_concurrency,
        waiting=known.max_queue,
        request_seconds=known.request_timeout,
    )
    return Options(
        runtime=known.runtime,
        model_name=known.model_name,
        model_dir=known.model_dir,
        bind_address=env.get("KEDGE_BIND_ADDRESS", ""),
        http_port=known.http_port,
        grpc_port=known.grpc_port,
        enable_grpc=known.enable_grpc,
        enable_latency_logging=known.enable_latency_logging,
        configure_logging=known.configure_logging,
        log_config_file=known.log_config_file or "",
        log_format=known.log_format,
        event_loop=known.event_loop,
        log_level=env.get("KSERVE_LOGLEVEL", "INFO"),
        grace_seconds=_grace(known),
        idle_seconds=_seconds(env.get("KEDGE_IDLE_SECONDS"), Options.idle_seconds),
        nthread=known.nthread,
        predict_proba=env.get("PREDICT_PROBA", "").lower() == "true",
        termination_log=env.get("KEDGE_TERMINATION_LOG", ""),
        limits=limits,
        predictor=_predictor(known),
        batching=_batching(known),
        payloads=_payloads(known, env),
        tracing=is_asked_for(env),
        batcher_response=known.batcher_response,
        access_log_format=known.access_log_format or "",
        docs=known.enable_docs_url,
        executor_threads=known.max_asyncio_workers,
        explainer=_explainer(known),
        unheeded=_unheeded(known, env),
        workers=known.workers,
        preload=known.preload,
        seat=read(env),
        unknown=tuple(unknown),
    )


def _grace(known: argparse.Namespace) -> float:
    """What was being answered when the server was told to end is answered."""
    if known.grace_period is not None:
        return float(known.grace_period)
    return float(known.request_timeout or USUAL_GRACE)


def _seconds(given: str | None, otherwise: float) -> float:
    try:
        return float(given or otherwise)
    except ValueError:
        return otherwise


def _batching(known: argparse.Namespace) -> Batching:
    """Unset, models known to allow it; true, all that pass the comparison at warm-up."""
    if known.batching is None:
        models = DEFAULT_BATCHING.models
    else:
        models = "all" if known.batching else "none"
    return replace(
        DEFAULT_BATCHING,
        models=models,
        rows=known.max_batch_size or DEFAULT_BATCHING.rows,
        seconds=known.max_latency / 1000,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # raises instead of exiting
        raise BadUsage(f"kedge serve: {message}.", fix="`kedge serve --help` lists what there is.")


def _parser(*, script: bool = False) -> argparse.ArgumentParser:
    if script:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        _add_flags(parser)
        _add_payload_flags(parser, script=True)
        return parser
    parser = _Parser(
        prog="kedge serve",
        description="Serves one model over REST (V1, Open Inference) and gRPC.",
        allow_abbrev=False,
    )
    _add_runtime(parser)
    _add_flags(parser)
    _add_payload_flags(parser, script=False)
    return parser


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runtime", help="a module of kedge.runtimes: sklearn, onnx ...")
    add("--model_dir", "--model-dir", default="/mnt/models", help="folder with the model's files")
    add("--nthread", type=int, default=1, help="threads of one prediction (xgboost, lightgbm)")


def _add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model_name", "--model-name", default="model", help="name in the endpoint's path")
    add("--http_port", "--http-port", type=_port, default=8080, help="REST")
    add("--grpc_port", "--grpc-port", type=_port, default=8081, help="gRPC")
    add("--enable_grpc", "--enable-grpc", type=_boolean, nargs="?", const=True, default=True,
        help="listen for gRPC")  # fmt: skip
    add("--enable_latency_logging", type=_boolean, nargs="?", const=True, default=True,
        help="a line of durations per request")  # fmt: skip
    add("--configure_logging", type=_boolean, nargs="?", const=True, default=True,
        help="write the server's own lines to stderr")  # fmt: skip
    add("--event-loop", "--event_loop", choices=("auto", "asyncio", "uvloop"), default="auto",
        help="auto is uvloop where it is installed")  # fmt: skip
    add("--timeout-keep-alive", type=float, default=DEFAULT_LIMITS.keep_alive_seconds,
        help="seconds until an idle connection is closed")  # fmt: skip
    add("--grpc_max_receive_message_length", type=int, default=0, help="bytes; 64 MiB unless set")
    add("--grpc_max_send_message_length", type=_count, default=0, help="bytes; no limit unless set")
    add("--max_asyncio_workers", type=_count, default=0, help="threads of the event loop's pool")
    add("--enable_docs_url", type=_boolean, nargs="?", const=True, default=True,
        help="the page at /docs")  # fmt: skip
    add("--access_log_format", default="",
        help="a line per HTTP request, such as '%%(h)s %%(r)s %%(s)s'")  # fmt: skip
    for flag in UNHEEDED:
        add(flag, default=None, help=argparse.SUPPRESS)
    for flag in CERTIFICATES:
        add(flag, default="", help=argparse.SUPPRESS)
    add("--grace-period", type=float, default=None,
        help="seconds to end requests after SIGTERM; unless set, as long as one may take, or 60 "
        "where that is not limited")  # fmt: skip
    add("--workers", type=_workers, default=1, help="processes that share the ports")
    add("--preload", type=_boolean, nargs="?", const=True, default=None,
        help="load the models once and fork the workers, which share their memory; unset, where "
        "the runtime is known to allow it")  # fmt: skip
    add("--log_config_file", default=None, help="configuration of logging: JSON, YAML or INI")
    add("--log_format", "--log-format", choices=("text", "json"), default="text",
        help="of the server's lines and those of requests")  # fmt: skip
    add("--predictor_host", default=None, help="host[:port] that a transformer forwards to")
    add("--predictor_protocol", default="v1", help="v1, v2 or grpc-v2")
    add("--predictor_use_ssl", type=_boolean, nargs="?", const=True, default=False,
        help="TLS to the predictor")  # fmt: skip
    add("--predictor_request_timeout_seconds", type=float, default=600.0, help="of one attempt")
    add("--predictor_request_retries", type=int, default=0,
        help="further attempts where it cannot be reached or is not ready")  # fmt: skip
    add("--enable_predictor_health_check", action="store_true",
        help="ready only while the predictor is")  # fmt: skip
    add("--explainer_host", default=None, help="host[:port] that explanations are asked of")
    add("--batching", type=_boolean, nargs="?", const=True, default=None,
        help="compute requests together: false never; true also models not known to allow it, "
        "if they pass the comparison at warm-up")  # fmt: skip
    add("--max_batch_size", "--max-batch-size", type=_count, default=0, help="rows of a batch")
    add("--max_latency", "--max-latency", type=_duration, default=0.0,
        help="milliseconds that a request waits on purpose for others; 0: never")  # fmt: skip
    add("--batcher_response", type=_boolean, nargs="?", const=True, default=False,
        help="V1 answers in the shape of KServe's batcher")  # fmt: skip
    add("--max_concurrency", "--max-concurrency", type=_count, default=DEFAULT_LIMITS.concurrency,
        help="requests of one model worked on at once; 0: no limit")  # fmt: skip
    add("--max_queue", "--max-queue", type=_count, default=DEFAULT_LIMITS.waiting,
        help="requests of one model that wait; more are answered 503")  # fmt: skip
    add("--request_timeout", "--request-timeout", type=_duration,
        default=DEFAULT_LIMITS.request_seconds,
        help="seconds until a request is answered 504; 0: never")  # fmt: skip


def _add_payload_flags(parser: argparse.ArgumentParser, *, script: bool) -> None:
    """KServe's agent has these; here the server itself logs."""
    add = parser.add_argument
    add("--log-url", "--log_url", default="", help="http, https or file URL that payloads go to")
    add("--log-mode", "--log_mode", choices=("all", "request", "response"), default="all",
        help="which payloads")  # fmt: skip
    add("--source-uri", "--source_uri", default="", help="source of the events")
    for name in ("inference-service", "namespace", "endpoint", "component"):
        # A script's own parser may well have a --namespace.
        names = [f"--log-{name}"] if script else [f"--log-{name}", f"--{name}"]
        add(*names, default="", help="attribute of the events")
    add("--metadata-headers", type=_names, action="extend", default=[],
        help="request headers that the events repeat, separated by commas")  # fmt: skip
    add("--metadata-annotations", type=_pairs, action="extend", default=[],
        help="KEY=VALUE, separated by commas")  # fmt: skip
    add("--logger-ca-cert-file", default="",
        help=f"of an https sink; a mere name is one in {_LOGGER_CERTIFICATES}")  # fmt: skip
    add("--logger-tls-skip-verify", type=_boolean, nargs="?", const=True, default=False,
        help="accept any certificate of an https sink")  # fmt: skip
    add("--log-queue", type=_count, default=1000, help="payloads that wait; more are dropped")
    add("--log-senders", type=_count, default=5, help="payloads that are sent at once")


def _payloads(known: argparse.Namespace, env: Mapping[str, str]) -> PayloadOptions | None:
    if not known.log_url:
        return None
    from kedge.server.payloads.options import PayloadOptions

    certificates = known.logger_ca_cert_file
    if certificates and "/" not in certificates:
        certificates = f"{_LOGGER_CERTIFICATES}/{certificates}"
    return PayloadOptions(
        url=known.log_url,
        mode=known.log_mode,
        source=known.source_uri,
        inference_service=known.log_inference_service or env.get("INFERENCE_SERVICE_NAME", ""),
        namespace=known.log_namespace,
        component=known.log_component,
        endpoint=known.log_endpoint,
        metadata_headers=tuple(known.metadata_headers),
        annotations=tuple(known.metadata_annotations),
        ca_file=certificates,
        skip_verify=known.logger_tls_skip_verify,
        senders=max(1, known.log_senders),
        records=known.log_queue,
    )


def _predictor(known: argparse.Namespace) -> PredictorConfig | None:
    if not known.predictor_host:
        return None
    return PredictorConfig(
        predictor_host=known.predictor_host,
        predictor_protocol=known.predictor_protocol,
        predictor_use_ssl=known.predictor_use_ssl,
        predictor_request_timeout_seconds=known.predictor_request_timeout_seconds,
        predictor_request_retries=known.predictor_request_retries,
        predictor_health_check=known.enable_predictor_health_check,
    )


def _explainer(known: argparse.Namespace) -> PredictorConfig | None:
    if not known.explainer_host:
        return None
    return PredictorConfig(
        predictor_host=known.explainer_host,
        predictor_use_ssl=known.predictor_use_ssl,
        predictor_request_timeout_seconds=known.predictor_request_timeout_seconds,
        predictor_request_retries=known.predictor_request_retries,
    )


def _unheeded(known: argparse.Namespace, env: Mapping[str, str]) -> tuple[str, ...]:
    """Flags of KServe's server that have no counterpart; one that promises TLS is refused."""
    for flag, variable in CERTIFICATES.items():
        if getattr(known, flag.strip("-")) or env.get(variable):
            raise BadUsage(
                f"{flag} ({variable}): this server does not speak TLS.",
                fix="Leave it out, and let the gateway in front of it hold the certificate.",
            )
    if known.access_log_format:
        from kedge.server.http.access import check_format

        check_format(known.access_log_format)
    given = [flag for flag in UNHEEDED if getattr(known, flag.strip("-")) is not None]
    return tuple(f"{flag} has no effect: {UNHEEDED[flag]}" for flag in given)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for piece in text.split(","):
        name, equals, value = piece.partition("=")
        if equals and name:
            pairs.append((name.strip(), value))
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{piece}")  # A value with a comma.
        else:
            break
    if pairs:
        return pairs
    raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE,...")


def _workers(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= MOST_WORKERS:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_WORKERS}")


def _count(text: str) -> int:
    if text.isdecimal() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")


def _duration(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if 0 <= number < 1e9:
        return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _port(text: str) -> int:
    if text.isdigit() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
