"""CloudEvents in and out, for V1: an event's data is the payload, and the answer is an event.

Binary mode: the attributes are `ce-` headers. Structured mode: the body is an object with all
attributes and the data. The answer is in the request's own mode.
"""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from kedge.protocol import v1
from kedge.protocol.errors import InvalidInput

STRUCTURED = "application/cloudevents+json"
_NEEDED = ("specversion", "id", "source", "type")
_PREFIX = "ce-"


class Event(NamedTuple):
    """Attributes of a request that was an event, and its data."""

    attributes: dict[str, str]
    data: Any
    structured: bool


def read(headers: Mapping[str, str], payload: Any) -> Event | None:
    """The event that a V1 request is; None when it is none."""
    event = from_headers(headers, payload) or from_body(payload, headers.get("content-type", ""))
    if event is not None and isinstance(event.data, dict):
        v1.check(event.data)
    return event


def from_headers(headers: Mapping[str, str], data: Any) -> Event | None:
    """The event in binary mode; None when the headers name none."""
    found = {
        name[len(_PREFIX) :]: value for name, value in headers.items() if name.startswith(_PREFIX)
    }
    if "specversion" not in found:
        return None
    _check(found)
    return Event(found, data, structured=False)


def from_body(body: Any, content_type: str) -> Event | None:
    """The event in structured mode; None when the body is none.

    A body that has every attribute and data is an event whatever its content type says.
    """
    declared = content_type.partition(";")[0].strip().lower() == STRUCTURED
    if not isinstance(body, dict):
        if declared:
            raise InvalidInput("Cloud Event Exceptions: the event must be a JSON object.")
        return None
    whole = "data" in body and "time" in body and all(name in body for name in _NEEDED)
    if not declared and not whole:
        return None
    attributes = {name: body[name] for name in body if name not in ("data", "data_base64")}
    _check(attributes)
    return Event(
        {name: str(value) for name, value in attributes.items()}, _data(body), structured=True
    )


def _data(body: dict[str, Any]) -> Any:
    if "data_base64" not in body:
        return body.get("data")
    try:
        raw = base64.b64decode(body["data_base64"], validate=True)
        return orjson.loads(raw)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"Cloud Event Exceptions: data_base64: {error}") from error


def _check(attributes: Mapping[str, Any]) -> None:
    missing = [name for name in _NEEDED if not attributes.get(name)]
    if missing:
        raise InvalidInput(f"Cloud Event Exceptions: missing attribute {', '.join(missing)}.")
    if attributes["specversion"] not in ("1.0", "0.3"):
        raise InvalidInput(
            f"Cloud Event Exceptions: specversion {str(attributes['specversion'])[:20]!r} is not "
            "known.",
            fix="Send specversion 1.0.",
        )


def answer(event: Event, model: str, outcome: Any) -> tuple[bytes, dict[str, str]]:
    """The body of the answering event, and its headers."""
    attributes = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": os.environ.get("CE_SOURCE") or f"io.kserve.inference.{model}",
        "type": os.environ.get("CE_TYPE") or "io.kserve.inference.response",
        "time": datetime.now(UTC).isoformat(),
    }
    if os.environ.get("CE_MERGE", "").lower() == "true":
        kept = {n: v for n, v in event.attributes.items() if n != "datacontenttype"}
        attributes = kept | attributes
    for name in ("traceparent", "tracestate"):  # The tracing extension of CloudEvents.
        if name in event.attributes:
            attributes[name] = event.attributes[name]
    if event.structured:
        data = outcome.decode("utf-8") if isinstance(outcome, bytes) else outcome
        body = v1.encode_response(
            {**attributes, "datacontenttype": "application/json", "data": data}
        )
        return body, {"content-type": STRUCTURED}
    named = {_PREFIX + name: value for name, value in attributes.items()}
    body = outcome if isinstance(outcome, bytes) else v1.encode_response(outcome)
    return body, {"content-type": "application/json"} | named
