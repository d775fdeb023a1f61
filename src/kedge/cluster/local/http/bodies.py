"""What a request carries: its body, and the options in its query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec
import yaml
from starlette.requests import Request

from kedge.cluster.base import PatchType
from kedge.cluster.errors import ApiError, BadRequest, UnsupportedMediaType
from kedge.cluster.local.http import wire
from kedge.cluster.local.requests import (
    DeleteOptions,
    FieldValidation,
    Propagation,
    WriteOptions,
)

MAX_BODY = 3 << 20
"""Bytes; the same as Kubernetes' own limit."""

PROTOBUF = "application/vnd.kubernetes.protobuf"

_PATCHES = {type.value: type for type in PatchType} | {
    "application/apply-patch+json": PatchType.APPLY,
}


class TooLarge(ApiError):
    """The body is larger than the API takes."""

    code = 413
    reason = "RequestEntityTooLarge"


async def read_body(request: Request) -> bytes:
    """The whole body; raises `TooLarge`."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY:
        raise _too_large()
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > MAX_BODY:
            raise _too_large()
    return bytes(received)


def _too_large() -> TooLarge:
    return TooLarge(
        f"the request's body is larger than {MAX_BODY} bytes."
        " Fix: Keep models and data out of the manifest; name where they are."
    )


def decode(body: bytes, content_type: str) -> Any:
    """JSON, YAML or Kubernetes' protobuf, by content type; raises `BadRequest`."""
    if content_type.startswith(PROTOBUF):
        return wire.decode(body)
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        if "yaml" not in content_type:
            raise BadRequest(f"the body cannot be read as JSON: {error}") from error
    try:
        return yaml.load(body, Loader=_TextLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadRequest(f"the body cannot be read as YAML: {error}") from error


class _TextLoader(yaml.SafeLoader):
    """YAML whose dates stay text, as JSON knows no dates, and that cannot multiply itself."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases are not taken; write the value out")
        return super().compose_node(parent, index)


_TextLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def patch_type(content_type: str) -> PatchType:
    """The patch format that a content type names."""
    media = content_type.partition(";")[0].strip()
    if media not in _PATCHES:
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include:"
            f" {', '.join(_PATCHES)}"
        )
    return _PATCHES[media]


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean of the query: absent is false, present without a value is true."""
    return name in query and query[name].lower() not in ("false", "0")


def number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f"{name}={text!r} in the query is no number") from None


def write_options(request: Request) -> WriteOptions:
    query = request.query_params
    validation = query.get("fieldValidation") or "Warn"
    if validation not in get_args(FieldValidation):
        raise BadRequest(
            f"fieldValidation={validation!r} in the query is unknown. Fix: Use Ignore, Warn or"
            " Strict."
        )
    manager = query.get("fieldManager") or manager_of(request.headers.get("user-agent", ""))
    return WriteOptions(
        field_manager=manager,
        dry_run=_dry_run(query.get("dryRun")),
        field_validation=validation,  # type: ignore[arg-type]  # checked against the literals
    )


def manager_of(user_agent: str) -> str:
    """The field manager of a client that names none: the first word of its agent."""
    return user_agent.partition("/")[0][:128] or "unknown"


def _dry_run(value: str | None) -> bool:
    if value in (None, ""):
        return False
    if value == "All":
        return True
    raise BadRequest(f"dryRun={value!r} in the query is unknown. Fix: Use All.")


def delete_options(request: Request, body: Any) -> DeleteOptions:
    """From the body (`metav1.DeleteOptions`), else from the query."""
    query = request.query_params
    given: dict[str, Any] = body if isinstance(body, dict) else {}
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = given.get("orphanDependents", query.get("orphanDependents"))
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan in (True, "true", "1") else "Background"
    if propagation is not None and str(propagation) not in get_args(Propagation):
        raise BadRequest(
            f"propagationPolicy {propagation!r} is unknown. Fix: Use Background, Foreground or"
            " Orphan."
        )
    grace = given.get("gracePeriodSeconds")
    if grace is None:
        grace = number(query, "gracePeriodSeconds")
    conditions = given.get("preconditions") or {}
    dry_run = given.get("dryRun") or []
    for field, value, wanted in (
        ("gracePeriodSeconds", grace, int | None),
        ("preconditions", conditions, dict),
        ("dryRun", dry_run, list),
    ):
        if not isinstance(value, wanted):
            raise BadRequest(f"DeleteOptions: {field} cannot be {value!r}")
    return DeleteOptions(
        propagation=propagation,  # type: ignore[arg-type]  # checked against the literals
        grace_seconds=grace,
        uid=conditions.get("uid"),
        resource_version=conditions.get("resourceVersion"),
        dry_run=_dry_run(query.get("dryRun")) or "All" in dry_run,
    )
