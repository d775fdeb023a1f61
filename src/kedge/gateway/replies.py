"""What Envoy itself answers, when no model does: named, in JSON, with a way out.

Every answer is `{"error": "what. Fix: how."}`, as the model server's own errors are; a gRPC caller
gets the same text as `grpc-message`, with the status that gRPC assigns to the HTTP one: what is not
found is UNIMPLEMENTED, what is late or not there is UNAVAILABLE.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)

from kedge.gateway.translate import AGAIN_HEADER

_SERVICE = "%METADATA(ROUTE:kedge:service)%"
_WHY = "%METADATA(ROUTE:kedge:why)%"
_HELD_SERVICE = "%DYNAMIC_METADATA(kedge.activation:service)%"
_HELD_WHY = "%DYNAMIC_METADATA(kedge.activation:why)%"


@dataclass(frozen=True)
class _Reply:
    """The text for answers of Envoy's that carry one of `flags`; gRPC callers may get their own."""

    flags: tuple[str, ...]
    text: str
    grpc_text: str = ""


_LIST = (
    " Fix: list what is served, with its URLs, by `kedge get` or"
    " `kubectl get inferenceservices -A`."
)
_REPLIES = (
    _Reply(
        ("NR",),
        f"No service answers to host '%REQ(:AUTHORITY)%' and path '%REQ(:PATH)%'.{_LIST}",
        f"No service answers to '%REQ(KEDGE-SERVICE?:AUTHORITY)%' over gRPC.{_LIST}",
    ),
    _Reply(
        ("UH", "NC"),
        f"Service {_SERVICE} has no ready endpoint."
        f" Fix: see what keeps it with `kedge why {_WHY}`.",
    ),
    _Reply(
        ("UT", "SI", "DT"),
        f"Service {_SERVICE} did not answer within the route's time limit. Fix: raise"
        " `timeout` (seconds) of the component in the InferenceService.",
    ),
)


def _make_broken(service: str, why: str, *flags: str) -> _Reply:
    return _Reply(
        flags,
        f"Service {service} broke the connection before it answered"
        f" (%RESPONSE_FLAGS%, %RESPONSE_CODE_DETAILS%). Fix: see why with `kedge why {why}`.",
    )


def make_local_replies() -> Any:
    """Of the listeners that clients speak to."""
    broken = _make_broken(_SERVICE, _WHY, "UF", "UC", "UR", "UPE", "URX")
    return _make_config([*_REPLIES, broken])


def make_activation_replies() -> Any:
    """Of the internal listener; where the pod took no connection, the answer asks for a retry."""
    config = _make_config([_make_broken(_HELD_SERVICE, _HELD_WHY, "UF", "NC", "UH")])
    for mapper in config.mappers:
        mapper.headers_to_add.add(header={"key": AGAIN_HEADER, "value": "1"})
    broken = _make_broken(_HELD_SERVICE, _HELD_WHY, "UC", "UR", "UPE", "URX")
    config.mappers.extend(_make_config([broken]).mappers)
    return config


def _make_config(replies: Iterable[_Reply]) -> Any:
    config = hcm.LocalReplyConfig()
    for reply in replies:
        config.mappers.append(_make_grpc_mapper(reply))
        config.mappers.append(_make_json_mapper(reply))
    return config


def _make_json_mapper(reply: _Reply) -> Any:
    return hcm.ResponseMapper(
        filter={"response_flag_filter": {"flags": reply.flags}},
        body_format_override={
            "json_format": {"error": reply.text},
            "content_type": "application/json",
        },
    )


def _make_grpc_mapper(reply: _Reply) -> Any:
    is_grpc = accesslog_pb2.AccessLogFilter(
        header_filter={
            "header": {
                "name": "content-type",
                "string_match": {"prefix": "application/grpc"},
            }
        }
    )
    has_flag = accesslog_pb2.AccessLogFilter(response_flag_filter={"flags": reply.flags})
    return hcm.ResponseMapper(
        filter={"and_filter": {"filters": [is_grpc, has_flag]}},
        body_format_override={
            "text_format_source": {"inline_string": reply.grpc_text or reply.text}
        },
    )
