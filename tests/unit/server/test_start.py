"""Starting: options, ports, and the one line that tells why it did not work."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kedge.server.errors import BadUsage, ModelLoadFailed, PortInUse
from kedge.server.main import RUNTIMES, find_runtime, serve
from kedge.server.options import parse, parse_script
from kedge.server.ports import bind, listen
from kedge.server.reference import document
from kedge.server.server import ModelServer


def test_kserve_s_arguments_are_understood() -> None:
    arguments = ["xgboost", "--model_name=m", "--model_dir=/mnt/models", "--http_port=8080"]
    options = parse([*arguments, "--nthread=1", "--workers=2", "--max_threads", "4"], {})
    assert (options.runtime, options.model_name, options.http_port) == ("xgboost", "m", 8080)
    assert options.bind_address == ""
    assert (options.workers, options.preload, options.seat) == (2, None, None)
    assert options.unknown == ()
    assert options.unheeded == ("--max_threads has no effect: gRPC needs no threads here.",)


def test_every_flag_of_kserve_s_is_known() -> None:
    values = {"--event-loop": "asyncio", "--predictor_protocol": "v2", "--log_config_file": "x"}
    switches = {"--enable_predictor_health_check"}
    flags = [
        "--http_port", "--grpc_port", "--workers", "--max_threads", "--max_asyncio_workers",
        "--enable_grpc", "--enable_docs_url", "--enable_latency_logging", "--configure_logging",
        "--log_config_file", "--access_log_format", "--event-loop", "--timeout-keep-alive",
        "--model_name", "--predictor_host", "--protocol", "--predictor_protocol",
        "--predictor_use_ssl", "--predictor_request_timeout_seconds", "--predictor_request_retries",
        "--enable_predictor_health_check", "--grpc_max_send_message_length",
        "--grpc_max_receive_message_length", "--explainer_host",
    ]  # fmt: skip
    given = [one if one in switches else f"{one}={values.get(one, '1')}" for one in flags]
    options = parse(["sklearn", *given], {})
    assert options.unknown == ()
    assert options.predictor is not None and options.predictor.predictor_health_check
    assert options.explainer is not None and options.explainer.predictor_protocol == "v1"
    assert (options.limits.send_bytes, options.executor_threads) == (1, 1)
    assert len(options.unheeded) == 2


@pytest.mark.parametrize(
    ("flags", "env"),
    [(["--ssl_certfile=a"], {}), ([], {"KSERVE_TLS_KEY_FILE": "k"})],
)
def test_tls_is_refused_and_not_forgotten(flags: list[str], env: dict[str, str]) -> None:
    with pytest.raises(BadUsage, match="does not speak TLS"):
        parse(["sklearn", *flags], env)


def test_payload_flags_are_those_of_kserve_s_agent() -> None:
    flags = ["--log-url=http://sink", "--log-mode=request", "--source-uri=pod", "--namespace=ns"]
    flags += ["--inference-service=iris", "--component=predictor", "--endpoint=default"]
    flags += ["--metadata-headers=a,b", "--metadata-annotations=k=v,w,x=y"]
    flags += ["--logger-ca-cert-file=ca.crt", "--logger-tls-skip-verify=true"]
    payloads = parse(["sklearn", *flags], {}).payloads
    assert payloads is not None
    assert (payloads.mode, payloads.source, payloads.namespace) == ("request", "pod", "ns")
    assert (payloads.inference_service, payloads.component) == ("iris", "predictor")
    assert payloads.metadata_headers == ("a", "b")
    assert payloads.annotations == (("k", "v,w"), ("x", "y"))
    assert (payloads.ca_file, payloads.skip_verify) == ("/etc/tls/logger/ca.crt", True)
    assert parse(["sklearn"], {}).payloads is None
    assert parse_script(["--log-url=file:///x", "--log-namespace=n"], {}).payloads is not None
    with pytest.raises(BadUsage, match="object stores"):
        parse(["sklearn", "--log-url=s3://b"], {})


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_asked_for_by_the_environment(env: dict[str, str], asked: bool) -> None:
    assert parse(["sklearn"], env).tracing is asked


def test_batching_and_limits_are_options() -> None:
    plain = parse(["sklearn"], {})
    assert (plain.batching.models, plain.batching.rows, plain.batching.seconds) == (
        "known",
        1024,
        0,
    )
    assert (plain.limits.concurrency, plain.limits.request_seconds) == (0, 0)
    flags = ["--max_batch_size=32", "--max_latency=5000", "--max_concurrency=2", "--max_queue=9"]
    asked = parse(["sklearn", "--batching", "true", *flags, "--request_timeout=1.5"], {})
    assert (asked.batching.models, asked.batching.rows, asked.batching.seconds) == ("all", 32, 5)
    assert (asked.limits.concurrency, asked.limits.waiting) == (2, 9)
    assert asked.limits.request_seconds == 1.5
    assert parse(["sklearn", "--batching=false"], {}).batching.models == "none"


def test_the_environment_is_read() -> None:
    env = {"KEDGE_BIND_ADDRESS": "127.3.0.1", "PREDICT_PROBA": "true", "KSERVE_LOGLEVEL": "DEBUG"}
    options = parse(["sklearn", "--enable_grpc", "false"], env)
    assert (options.bind_address, options.predict_proba) == ("127.3.0.1", True)
    assert (options.log_level, options.enable_grpc) == ("DEBUG", False)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sklearn", "--http_port", "x"],
        ["sklearn", "--enable_grpc", "maybe"],
        ["sklearn", "--workers=0"],
    ],
)
def test_bad_usage_is_named(arguments: list[str]) -> None:
    with pytest.raises(BadUsage, match="kedge serve"):
        parse(arguments, {})


def test_runtimes_are_found_by_name() -> None:
    for name in RUNTIMES:
        assert find_runtime(name).ENDINGS
    with pytest.raises(BadUsage, match="There is no runtime 'nope'"):
        find_runtime("nope")


def test_a_port_in_use_names_its_holder() -> None:
    with bind("127.0.0.1", 0, "http_port") as holder:
        listen(holder, "http_port")
        port = holder.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            bind("127.0.0.1", port, "http_port")
        assert f"Port {port} on 127.0.0.1 is taken (held by pid" in str(caught.value)
        assert "--http_port" in caught.value.fix


@pytest.mark.parametrize(("has_both", "family"), [(True, socket.AF_INET6), (False, socket.AF_INET)])
def test_a_server_is_reached_at_every_address(
    monkeypatch: pytest.MonkeyPatch, has_both: bool, family: socket.AddressFamily
) -> None:
    if has_both and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: has_both)
    with bind("", 0, "http_port") as sock:
        listen(sock, "http_port")
        assert sock.family == family
        with socket.create_connection(("127.0.0.1", sock.getsockname()[1])):
            pass


@pytest.mark.parametrize(
    ("said", "env", "used"),
    [
        ("", {}, ""),
        ("", {"KEDGE_BIND_ADDRESS": "127.3.0.1"}, "127.3.0.1"),
        ("0.0.0.0", {"KEDGE_BIND_ADDRESS": "127.3.0.1"}, "127.3.0.1"),
        ("0.0.0.0", {}, "0.0.0.0"),
        ("127.0.0.9", {"KEDGE_BIND_ADDRESS": "127.3.0.1"}, "127.0.0.9"),
    ],
)
def test_a_script_s_own_address_counts(
    monkeypatch: pytest.MonkeyPatch, said: str, env: dict[str, str], used: str
) -> None:
    monkeypatch.delenv("KEDGE_BIND_ADDRESS", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    server = ModelServer(bind_address=said)
    server._read([])
    assert server._address == used


def test_two_may_bind_but_only_one_listens() -> None:
    with socket.socket() as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        second = bind("127.0.0.1", first.getsockname()[1], "grpc_port")
        first.listen()
        with pytest.raises(PortInUse):
            listen(second, "grpc_port")


def test_the_line_is_one_line() -> None:
    failure = ModelLoadFailed("a\n  b", fix="c")
    assert failure.line() == "ModelLoadFailed: a b Fix: c"


def test_a_failed_start_is_written_where_it_will_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "termination-log"
    monkeypatch.setenv("KEDGE_TERMINATION_LOG", str(log))
    assert serve(["nope"]) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith("BadUsage: There is no runtime")
    assert log.read_text().startswith("BadUsage: There is no runtime 'nope'. Fix: Use one of")


def test_golden_reference_of_the_flags(golden: Callable[[Path, str], None]) -> None:
    golden(Path(__file__).parents[3] / "docs/reference/server.md", document())


def test_what_is_off_is_not_imported() -> None:
    script = (
        "import sys\n"
        "import kedge.server.main, kedge.server.server, kedge.server.grpc.service\n"
        "kedge.server.server.ModelServer()\n"
        "off = 'observed access batcher_shape'.split()\n"
        "print([m for m in sys.modules if m.startswith(('opentelemetry', 'kedge.server.payloads'))"
        " or m.rpartition('.')[2] in off])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("given", "grace"),
    [
        ([], 60.0),
        (["--request_timeout=300"], 300.0),
        (["--request_timeout=9", "--grace-period=2"], 2.0),
    ],
)
def test_what_is_being_answered_may_take_its_time_at_the_end(
    given: list[str], grace: float
) -> None:
    assert parse(["sklearn", *given], {}).grace_seconds == grace
