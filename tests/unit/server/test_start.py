"""Starting: options, ports, and the one line that tells why it did not work."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kedge.server.errors import BadUsage, ModelLoadFailed, PortInUse
from kedge.server.main import RUNTIMES, find_runtime, serve
from kedge.server.options import parse
from kedge.server.ports import bind, find_holder, listen


def test_kserve_s_arguments_are_understood() -> None:
    arguments = ["xgboost", "--model_name=m", "--model_dir=/mnt/models", "--http_port=8080"]
    options = parse([*arguments, "--nthread=1", "--workers=2", "--max_threads", "4"], {})
    assert (options.runtime, options.model_name, options.http_port) == ("xgboost", "m", 8080)
    assert options.bind_address == "0.0.0.0"
    assert options.unknown == ("--workers=2", "--max_threads", "4")


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
    "arguments", [[], ["sklearn", "--http_port", "x"], ["sklearn", "--enable_grpc", "maybe"]]
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
        assert f"Port {port} on 127.0.0.1 is taken by pid" in str(caught.value)
        assert "--http_port" in caught.value.fix
    assert find_holder(port) == ""


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
