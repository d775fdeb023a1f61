"""One measurement of one server: load on its own core, and the server's account in the kernel."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.server.payloads import GRPC_PATH, Array, Payload
from benchmarks.server.processes import LOAD_CORE, Failed, Probe, Server, pinned

Figures = dict[str, Any]
WARM_UP_SECONDS = 0.3
_LARGE_BYTES = 4 << 20
_LARGE_CALLS = 12


def rest(
    server: Server, path: str, bodies: Path, *, clients: int, seconds: float, keep: int = 0,
    bad: bool = False,
) -> Figures:  # fmt: skip
    """Requests a second, latency, and the server's CPU time per request.

    With `bad` bodies among them, a server may close connections; how many is in the result.
    """
    before = server.cpu_seconds()
    command = load_command(server, path, bodies, clients=clients, seconds=seconds)
    done = subprocess.run([*command, "--keep", str(keep)], capture_output=True, text=True)
    spent = server.cpu_seconds() - before
    server.check()
    if done.returncode:
        raise Failed(f"{server.name}: {done.stderr.strip()[-400:]}")
    found: Figures = json.loads(done.stdout)
    if found["failed"] or (found["lost"] and not bad):
        raise Failed(
            f"{server.name}: {found['failed']} wrong answers, {found['lost']} connections lost: "
            f"{found['example']}"
        )
    found["cpu_us"] = round(spent / found["answered"] * 1e6, 1)
    return found


def load_command(
    server: Server, path: str, bodies: Path, *, clients: int, seconds: float
) -> list[str]:
    url = f"http://127.0.0.1:{server.ports.http}{path}"
    return pinned(
        [
            sys.executable, "-m", "benchmarks.load", url, str(bodies), "--clients", str(clients),
            "--seconds", str(seconds), "--warm-up", str(WARM_UP_SECONDS),
        ],
        LOAD_CORE,
    )  # fmt: skip


def beside(server: Server, path: str, small: Path, big: Path, **how: Any) -> Figures:
    """The same while another client posts big bodies, one every quarter of a second."""
    seconds = float(how["seconds"]) + 2 * WARM_UP_SECONDS
    command = load_command(server, path, big, clients=1, seconds=seconds)
    with subprocess.Popen(
        [*command, "--pause", "0.25"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        found = rest(server, path, small, **how)
        out, err = other.communicate()
    if other.returncode:
        raise Failed(f"{server.name}, big bodies: {err.strip()[-400:]}")
    found["big"] = {key: json.loads(out)[key] for key in ("requests", "p50", "failed")}
    return found


# -- gRPC ----------------------------------------------------------------------------------------


def grpc_reason() -> str:
    """Why gRPC cannot be measured here; empty when it can."""
    if shutil.which("h2load") is None:
        return "h2load is not installed (Debian: apt-get install nghttp2-client)"
    return ""


def grpc(server: Server, body: Path, *, clients: int, seconds: float) -> Figures:
    """Unary calls by h2load, one at a time on each of its connections."""
    h2load(server, body, clients=clients, seconds=WARM_UP_SECONDS)
    before = server.cpu_seconds()
    found = h2load(server, body, clients=clients, seconds=seconds)
    spent = server.cpu_seconds() - before
    server.check()
    found["cpu_us"] = round(spent / found["requests"] * 1e6, 1)
    return found


def h2load(server: Server, body: Path, *, clients: int, seconds: float) -> Figures:
    url = f"http://127.0.0.1:{server.ports.grpc}{GRPC_PATH}"
    lasts = ["-D", f"{round(seconds * 1000)}ms"]
    if body.stat().st_size > _LARGE_BYTES:
        lasts = ["-n", str(_LARGE_CALLS)]  # A call may take longer than a measurement.
    with tempfile.NamedTemporaryFile() as log:
        command = [
            "h2load", "-c", str(clients), "-m", "1", "-t", "1", *lasts,
            "-d", str(body), "-H", "content-type: application/grpc", "-H", "te: trailers",
            "-w", "24", "-W", "24", f"--log-file={log.name}", url,
        ]  # fmt: skip
        done = subprocess.run(pinned(command, LOAD_CORE), capture_output=True, text=True)
        times = read_log(Path(log.name).read_text())
    rate = re.search(r"finished in .*?, ([0-9.]+) req/s", done.stdout)
    if rate is None or not times:
        raise Failed(f"{server.name}: h2load: {(done.stderr or done.stdout).strip()[-400:]}")
    return {
        "clients": clients,
        "requests": len(times),
        "per_second": float(rate[1]),
        "p50": times[len(times) // 2],
        "p99": times[min(len(times) - 1, int(len(times) * 0.99))],
    }


def read_log(text: str) -> list[float]:
    """Seconds of every call that was answered, ascending: start, status, microseconds."""
    lines = (line.split("\t") for line in text.splitlines())
    return sorted(int(one[2]) / 1e6 for one in lines if len(one) == 3 and one[1] == "200")


def grpc_answer(server: Server, framed: bytes) -> Any:
    """The decoded answer to one call, by another gRPC library than the server's."""
    import grpc as grpcio

    from kedge.protocol.open_inference import messages

    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpcio.insecure_channel(f"127.0.0.1:{server.ports.grpc}", options=limits) as channel:
        call = channel.unary_unary(
            GRPC_PATH,
            request_serializer=bytes,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        try:
            return call(framed[5:], timeout=30)
        except grpcio.RpcError as error:
            raise Failed(f"{server.name}: gRPC: {error}") from error


def check_grpc(server: Server, payload: Payload, expected: Array | None) -> None:
    """The first answer is the framework's own, or the tensor that was sent."""
    answer = grpc_answer(server, payload.grpc)
    if expected is None:
        if bytes(answer.raw_output_contents[0]) != payload.blob:
            raise Failed(f"{server.name}: gRPC: the tensor did not come back as it went")
        return
    tensor = answer.outputs[0]
    if answer.raw_output_contents:
        dtype = {"INT64": "<i8", "INT32": "<i4", "FP32": "<f4", "FP64": "<f8"}[tensor.datatype]
        found = np.frombuffer(answer.raw_output_contents[0], dtype=dtype)
    else:
        contents = tensor.contents
        found = np.array(list(contents.int64_contents) or list(contents.fp64_contents))
    if not np.allclose(found.ravel(), expected.ravel(), atol=1e-4):
        raise Failed(f"{server.name}: gRPC: answered {found}, not {expected}")


# -- are the answers right? ----------------------------------------------------------------------


def check_labels(server: Server, kept: dict[str, str], expected: Array) -> int:
    """Compares answers with the framework's own; returns how many there were."""
    for index, text in kept.items():
        found = np.array(json.loads(text)["outputs"][0]["data"], dtype=float).ravel()
        wanted = expected[int(index)].astype(float).ravel()
        if found.shape != wanted.shape or not np.allclose(found, wanted, atol=1e-4):
            raise Failed(f"{server.name}: body {index} was answered {found}, not {wanted}")
    return len(kept)


def check_echo(server: Server, probe: Probe, blob: bytes) -> None:
    """The tensor comes back as it went, in the form it came in."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.http, timeout=60)
    connection.request("POST", probe.path, probe.body, dict(probe.headers))
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise Failed(f"{server.name}: {answer.status} {body[:300]!r}")
    if "inference-header-content-length" in probe.headers:
        right = body.endswith(blob)
    else:
        document = json.loads(body)
        data = document.get("outputs", document.get("inputs"))[0]["data"]
        right = np.allclose(np.ravel(data), np.frombuffer(blob, "<f4"), atol=1e-4)
    if not right:
        raise Failed(f"{server.name}: the tensor did not come back as it went")
