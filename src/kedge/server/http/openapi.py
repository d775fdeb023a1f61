"""The OpenAPI document of REST, and a page that shows it without asking any other server."""

from __future__ import annotations

import re
from html import escape
from typing import Any, NamedTuple

from kedge.server.http.schemas import SCHEMAS

_JSON = "application/json"

_STREAM = "text/event-stream"
_BINARY = "application/octet-stream"
_ANY = ""


class _Bodies(NamedTuple):
    """What an operation is sent, and what it tells: the names of schemas."""

    sent: str = ""
    told: str = _ANY
    types: tuple[str, ...] = (_JSON,)
    failures: tuple[int, ...] = ()


_OFTEN = (400, 404, 413, 500, 501, 502, 503, 504)
_BODIES: dict[str, _Bodies] = {
    ":predict": _Bodies("V1Request", _ANY, (_JSON, _STREAM), _OFTEN),
    ":explain": _Bodies("V1Request", _ANY, (_JSON,), _OFTEN),
    "/infer": _Bodies("InferRequest", "InferResponse", (_JSON, _BINARY), _OFTEN),
    "/infer_stream": _Bodies("InferRequest", _ANY, (_STREAM,), _OFTEN),
    "/generate_stream": _Bodies("GenerateRequest", _ANY, (_STREAM,), _OFTEN),
    "/generate": _Bodies("GenerateRequest", "Generated", (_JSON,), _OFTEN),
    "/load": _Bodies("", "Loaded", (_JSON,), (404, 503)),
    "/unload": _Bodies("", "Unloaded", (_JSON,), (404,)),
    "/index": _Bodies("IndexRequest", "Index", (_JSON,), (400, 413)),
    "/metrics": _Bodies("", _ANY, ("text/plain", "application/openmetrics-text")),
    "/docs": _Bodies("", _ANY, ("text/html",)),
    "/openapi.json": _Bodies(),
    "/stats": _Bodies("", "Statistics", (_JSON,), (404,)),
    "/health/live": _Bodies("", "Live"),
    "/health/ready": _Bodies("", "Ready", (_JSON,), (503,)),
    "/ready": _Bodies("", "ModelReady", (_JSON,), (404, 503)),
    "/v1/models": _Bodies("", "Models"),
    "/v2/models": _Bodies("", "Models"),
    "/v1/models/{name}": _Bodies("", "ModelReady", (_JSON,), (404, 503)),
    "/v2": _Bodies("", "ServerMetadata"),
    "/v2/": _Bodies("", "ServerMetadata"),
    "{name}": _Bodies("", "ModelMetadata", (_JSON,), (404,)),
    "{version}": _Bodies("", "ModelMetadata", (_JSON,), (404,)),
    "/": _Bodies("", "Alive"),
}
"""By the end of the path; the first that fits."""

_FAILURES = {
    400: "The request is wrong; the message names what.",
    404: "There is no such model or version.",
    413: "The request is larger than this server takes.",
    500: "The model failed; its log tells why.",
    501: "The model does not offer this.",
    502: "The predictor behind the model cannot be reached.",
    503: "The model is not ready, or has too much to do.",
    504: "The model did not answer in time.",
}
_INFERENCE = (
    ("POST", "/v1/models/{name}:predict", "Predict (V1). Events where the model streams."),
    ("POST", "/v2/models/{name}/infer", "Infer (Open Inference)."),
    ("POST", "/v2/models/{name}/versions/{version}/infer", "Infer (Open Inference)."),
)


def document(version: str, routes: list[tuple[str, str, str]]) -> dict[str, Any]:
    """OpenAPI 3.1 over `routes`: (verb, path, summary)."""
    paths: dict[str, dict[str, Any]] = {}
    for verb, path, summary in [*_INFERENCE, *routes]:
        paths.setdefault(path, {}).setdefault(verb.lower(), _operation(verb, path, summary))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kedge model server", "version": version},
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _operation(verb: str, path: str, summary: str) -> dict[str, Any]:
    bodies = next(bodies for end, bodies in _BODIES.items() if path.endswith(end))
    operation: dict[str, Any] = {
        "operationId": f"{verb.lower()}{re.sub('[^a-z0-9]+', '_', path)}",
        "summary": summary,
        "parameters": [
            {"name": one, "in": "path", "required": True, "schema": {"type": "string"}}
            for one in re.findall(r"{(\w+)}", path)
        ],
        "responses": {
            "200": {"description": "It worked.", "content": _content(bodies.told, bodies.types)},
            **{
                str(status): {
                    "description": _FAILURES[status],
                    "content": _content("Ready" if path.endswith("/health/ready") else "Error"),
                }
                for status in bodies.failures
            },
        },
    }
    if bodies.sent:
        operation["requestBody"] = {"required": True, "content": _content(bodies.sent)}
    return operation


def _content(schema: str, types: tuple[str, ...] = (_JSON,)) -> dict[str, Any]:
    described = {"schema": {"$ref": f"#/components/schemas/{schema}"}} if schema else {}
    return {one: described if one == _JSON else {} for one in types}


def page(described: dict[str, Any], models: list[str]) -> str:
    """The document for people. Everything it needs is in it."""
    rows = "".join(
        f"<tr><td>{verb.upper()}<td><code>{escape(path)}</code><td>{escape(one['summary'])}"
        for path, verbs in described["paths"].items()
        for verb, one in verbs.items()
    )
    served = ", ".join(f"<code>{escape(name)}</code>" for name in models) or "none"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Kedge model server</title>"
        "<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}"
        "td{padding:.2rem 1rem .2rem 0;vertical-align:top}</style>"
        f"<h1>Kedge model server {escape(described['info']['version'])}</h1>"
        f"<p>Models: {served}. <a href=openapi.json>OpenAPI document</a>.</p>"
        f"<table>{rows}</table></html>"
    )
