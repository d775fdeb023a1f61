"""Flags of the servers that a runtime stands in for, so that their manifests run as they are.

KServe runs TensorFlow models in TensorFlow Serving, whose flags have names and units of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

# From KServe's kserve-tensorflow-serving runtime; `--port` there is gRPC's.
_TENSORFLOW_SERVING = {
    "--model_base_path": "--model_dir",
    "--rest_api_port": "--http_port",
    "--port": "--grpc_port",
}
_MILLISECONDS = {"--rest_api_timeout_in_ms": "--request_timeout"}


def translated(argv: Sequence[str]) -> list[str]:
    """`argv` with a foreign server's flags as Kedge's; the first argument names the runtime."""
    given = list(argv)
    if given[:1] != ["tensorflow"]:
        return given
    return [_translated(argument) for argument in given]


def _translated(argument: str) -> str:
    name, separator, value = argument.partition("=")
    if name in _MILLISECONDS and value.isdecimal():
        return f"{_MILLISECONDS[name]}={int(value) / 1000:g}"
    return _TENSORFLOW_SERVING.get(name, name) + separator + value
