"""Compares the answers of a candidate with those that clients get, and counts.

Envoy tells both, as copies, on a unix socket: one gRPC stream an answer. The two are paired by the
request's id. A request is compared once both have ended; one whose other answer does not come is
counted as unanswered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages

from kedge.gateway.agreement import Answer, compare
from kedge.gateway.revision import key_of
from kedge.gateway.shadow import CANDIDATE, REPORT
from kedge.gateway.translate import COMPARE_ROLE, SHADOW_HEADER
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.lib.grpc_socket import serve_on_socket
from kedge.settings.gateway import LATENCY_BUCKETS

_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
KEPT_BYTES = 1 << 20
"""Of an answer; what is larger is compared by its status only."""
KEPT_ANSWERS = 512
"""Answers that wait for their other one; the oldest go first."""
KEPT_SECONDS = 300.0
RESULTS = ("agree", "differ", "status", "unknown", "unanswered")


@dataclass
class Comparison:
    """A service's answers against a candidate's.

    Attributes:
        results: requests by what became of them, one of `RESULTS`.
        service: requests by the time that the service took, as in `LATENCY_BUCKETS`, and beyond.
        candidate: the same of the candidate.
        seconds: the sums of both.
    """

    results: Counter[str] = field(default_factory=Counter)
    service: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS) + 1))
    candidate: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS) + 1))
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])


@dataclass(slots=True)
class _Pair:
    began: float
    service: str = ""
    candidate: str = ""
    answers: dict[bool, Answer] = field(default_factory=dict)


class Comparer:
    """Takes answers, pairs them, counts.

    Attributes:
        comparisons: by service and candidate, both `namespace/name`.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.comparisons: dict[tuple[str, str], Comparison] = {}
        self._clock = clock
        self._open: OrderedDict[str, _Pair] = OrderedDict()

    async def serve(self, socket: Path) -> None:
        """Serve on a unix socket until cancelled."""
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        handler = grpc.stream_stream_rpc_method_handler(
            self._process,
            request_deserializer=messages.ProcessingRequest.FromString,
            response_serializer=None,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"Process": handler}),)
        )
        await serve_on_socket(server, socket)

    async def _process(self, requests: Any, context: Any) -> Any:
        role = [value for key, value in context.invocation_metadata() if key == COMPARE_ROLE][-1]
        if role == REPORT:
            yield _make_report(self.format())
            return
        began, answer, named = self._clock.monotonic(), Answer(), {}
        async for request in requests:
            if request.WhichOneof("request") == "request_headers":
                named = _read_headers(request.request_headers)
            elif _take(answer, request):
                answer.seconds = self._clock.monotonic() - began
                candidate = key_of(named.get(SHADOW_HEADER, ""))
                id = named.get("x-request-id", "")
                self.note(
                    id, answer, service="" if role == CANDIDATE else role, candidate=candidate
                )

    def note(self, id: str, answer: Answer, *, service: str = "", candidate: str = "") -> None:
        """The answer to request `id`, of a service or of a candidate."""
        now = self._clock.monotonic()
        pair = self._open.setdefault(id, _Pair(now))
        pair.service, pair.candidate = service or pair.service, candidate or pair.candidate
        pair.answers[bool(service)] = answer
        if len(pair.answers) == 2:
            del self._open[id]
            self._count(pair, compare(pair.answers[True], pair.answers[False]))
        while self._open and (
            len(self._open) > KEPT_ANSWERS
            or next(iter(self._open.values())).began < now - KEPT_SECONDS
        ):
            _, old = self._open.popitem(last=False)
            self._count(old, "unanswered")

    def _count(self, pair: _Pair, result: str) -> None:
        if not pair.service:
            # The client went away before it was answered.
            return
        found = self.comparisons.setdefault((pair.service, pair.candidate), Comparison())
        found.results[result] += 1
        if len(pair.answers) == 2:
            for number, (whose, table) in enumerate(
                ((True, found.service), (False, found.candidate))
            ):
                seconds = pair.answers[whose].seconds
                table[bisect_left(LATENCY_BUCKETS, seconds * 1000)] += 1
                found.seconds[number] += seconds

    def format(self) -> str:
        """The figures as Prometheus reads them."""
        counts = ["# TYPE kedge_shadow_requests counter"]
        times = ["# TYPE kedge_shadow_seconds histogram"]
        for (service, candidate), found in sorted(self.comparisons.items()):
            pair = f'service="{service}",candidate="{candidate}"'
            counts += [
                f'kedge_shadow_requests_total{{{pair},result="{result}"}} {found.results[result]}'
                for result in RESULTS
            ]
            for number, (whose, table) in enumerate(
                (("service", found.service), ("candidate", found.candidate))
            ):
                labels = f'{pair},of="{whose}"'
                times += _format_histogram(labels, table, found.seconds[number])
        return "\n".join([*counts, *times, "# EOF", ""])


def _format_histogram(labels: str, table: list[int], seconds: float) -> list[str]:
    lines, total = [], 0
    for bound, count in zip((*LATENCY_BUCKETS, None), table, strict=True):
        total += count
        le = "+Inf" if bound is None else f"{bound / 1000:g}"
        lines.append(f'kedge_shadow_seconds_bucket{{{labels},le="{le}"}} {total}')
    lines.append(f"kedge_shadow_seconds_count{{{labels}}} {total}")
    lines.append(f"kedge_shadow_seconds_sum{{{labels}}} {seconds:.6f}")
    return lines


def _read_headers(message: Any) -> dict[str, str]:
    return {one.key: one.raw_value.decode("latin-1") for one in message.headers.headers}


def _take(answer: Answer, request: Any) -> bool:
    """Take in a part of an answer; whether it was the last."""
    match request.WhichOneof("request"):
        case "response_headers":
            answer.headers = _read_headers(request.response_headers)
            answer.status = answer.headers.get("grpc-status") or answer.headers.get(":status", "")
            return bool(request.response_headers.end_of_stream)
        case "response_body":
            if len(answer.body) + len(request.response_body.body) <= KEPT_BYTES:
                answer.body += request.response_body.body
            else:
                answer.cut = True
            return bool(request.response_body.end_of_stream)
        case "response_trailers":
            trailers = {
                one.key: one.raw_value.decode("latin-1")
                for one in request.response_trailers.trailers.headers
            }
            answer.status = trailers.get("grpc-status", answer.status)
            return True
    return False


def _make_report(text: str) -> bytes:
    kind = {"header": {"key": "content-type", "raw_value": b"text/plain; version=0.0.4"}}
    response = messages.ProcessingResponse(
        immediate_response=messages.ImmediateResponse(
            status={"code": 200}, headers={"set_headers": [kind]}, body=text.encode()
        )
    )
    packed: bytes = response.SerializeToString()
    return packed
