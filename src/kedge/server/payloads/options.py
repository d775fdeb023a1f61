"""Where payloads go, and how much of them may wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kedge.server.errors import BadUsage
from kedge.server.limits import MIB

Mode = Literal["all", "request", "response"]

SCHEMES = ("http://", "https://", "file://")


@dataclass(frozen=True)
class PayloadOptions:
    """The flags of KServe's agent, and the bounds of what waits.

    Attributes:
        url: http(s) for CloudEvents, or a file of JSON lines.
        source: of the events; empty means the server's own address.
        metadata_headers: headers of a request that its events repeat; any case.
        annotations: what all events say besides.
        ca_file: certificates that an https sink is checked against.
        senders: threads that send, each with a connection of its own; a file has one.
        records: most records that wait.
        bytes: most bytes of bodies that wait.
        attempts: how often a record is sent before it is given up.
        drain_seconds: how long the end of the server waits for what is unsent.
        file_bytes: a file that would grow beyond it is set aside.
        files: how many files that were set aside are kept.
    """

    url: str
    mode: Mode = "all"
    source: str = ""
    inference_service: str = ""
    namespace: str = ""
    component: str = ""
    endpoint: str = ""
    metadata_headers: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    ca_file: str = ""
    skip_verify: bool = False
    senders: int = 5
    records: int = 1000
    bytes: int = 64 * MIB
    attempts: int = 5
    drain_seconds: float = 5.0
    file_bytes: int = 64 * MIB
    files: int = 5

    def __post_init__(self) -> None:
        if not self.url.startswith(SCHEMES):
            raise BadUsage(
                f"Payloads cannot be logged to {self.url!r}.",
                fix="Set --log-url to an http, https or file URL; object stores are not in this "
                "release.",
            )

    def wants(self, kind: Literal["request", "response"]) -> bool:
        return self.mode in ("all", kind)
