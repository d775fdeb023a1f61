"""The OpenAPI document of REST, and a page that shows it without asking any other server."""

from __future__ import annotations

import re
from html import escape
from typing import Any

_JSON = "application/json"

_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    },
    "Parameters": {
        "type": "object",
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    },
    "V1Request": {
        "type": "object",
        "description": "Rows in `instances`; `inputs` is a synonym, and wins.",
        "properties": {"instances": {"type": "array"}, "inputs": {}},
        "additionalProperties": True,
    },
    "V1Response": {"type": "object", "properties": {"predictions": {}}},
    "Tensor": {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {
                "enum": [
                    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32",
                    "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES",
                ]
            },
            "parameters": {"$ref": "#/components/schemas/Parameters"},
            "data": {"type": "array"},
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"$ref": "#/components/schemas/Parameters"},
            "inputs": {
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/components/schemas/Tensor"},
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "parameters": {"$ref": "#/components/schemas/Parameters"},
                    },
                },
            },
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"$ref": "#/components/schemas/Parameters"},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
        },
    },
    "GenerateRequest": {
        "type": "object",
        "required": ["text_input"],
        "properties": {
            "text_input": {"type": "string"},
            "parameters": {"$ref": "#/components/schemas/Parameters"},
        },
    },
}  # fmt: skip

_BODIES: dict[str, tuple[str, str | None]] = {
    ":predict": ("V1Request", "V1Response"),
    ":explain": ("V1Request", None),
    "/infer": ("InferRequest", "InferResponse"),
    "/infer_stream": ("InferRequest", None),
    "/generate_stream": ("GenerateRequest", None),
    "/generate": ("GenerateRequest", None),
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
        "components": {"schemas": _SCHEMAS},
    }


def _operation(verb: str, path: str, summary: str) -> dict[str, Any]:
    asked, told = next((v for k, v in _BODIES.items() if path.endswith(k)), (None, None))
    operation: dict[str, Any] = {
        "operationId": f"{verb.lower()}{re.sub('[^a-z0-9]+', '_', path)}",
        "summary": summary,
        "parameters": [
            {"name": one, "in": "path", "required": True, "schema": {"type": "string"}}
            for one in re.findall(r"{(\w+)}", path)
        ],
        "responses": {
            "200": {"description": "It worked."} | (_content(told) if told else {}),
            "default": {"description": "It did not."} | _content("Error"),
        },
    }
    if asked:
        operation["requestBody"] = {"required": True} | _content(asked)
    return operation


def _content(schema: str) -> dict[str, Any]:
    return {"content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


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
