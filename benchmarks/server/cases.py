"""What is measured. Each case stands alone: `--only` chooses by the group's name or the key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Variant = Literal["plain", "beside", "bad"]

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One question to several servers.

    Attributes:
        key: its name in the results.
        framework: the model that is served.
        body: kind of payload.
        variant: `beside` asks small requests alone and beside a client with 10 MB of JSON, `bad`
            asks with clean bodies and with one wrong body in a hundred.
    """

    key: str
    group: str
    framework: str
    body: str
    clients: int
    peers: tuple[str, ...]
    transport: Literal["rest", "grpc"] = "rest"
    variant: Variant = "plain"


_REST = ("kedge", "kserve", "mlserver", "triton", "mosec", "litserve", "asgi", "asgi-batching")
_GRPC = ("kedge", "kserve", "mlserver", "triton")


def all_cases() -> Iterator[Case]:
    for clients in (1, 16, 64, 256):
        yield Case(f"iris-rest-{clients}", "iris", "sklearn", "iris", clients, _REST)
    for clients in (1, 16, 64):
        yield Case(f"iris-grpc-{clients}", "grpc", "sklearn", "iris", clients, _GRPC, "grpc")
    yield Case("bad-1-percent", "bad", "sklearn", "iris-bad", 64, _REST[:4], variant="bad")
    for framework in ("xgboost", "lightgbm"):
        yield Case(f"{framework}-rest-64", "frameworks", framework, "iris", 64, _REST[:3])
    yield Case("onnx-rest-64", "frameworks", "onnx", "iris-label", 64, _REST[:2])
    echo = ("kedge", "kserve", "asgi")
    for size in (1, 16):
        for form in ("binary", "json"):
            body = f"{form}-{size * MIB}"
            # KServe takes half a minute for 32 MB of JSON.
            asked = echo if (form, size) != ("json", 16) else ("kedge", "asgi")
            yield Case(f"tensor-{form}-{size}-rest", "tensor", "identity", body, 1, asked)
        body = f"binary-{size * MIB}"
        yield Case(f"tensor-{size}-grpc", "tensor", "identity", body, 1, _GRPC[:2], "grpc")
    yield Case("beside-10-mb", "beside", "identity", "small", 16, echo[:2], variant="beside")
