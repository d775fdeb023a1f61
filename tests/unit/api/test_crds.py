"""The committed CustomResourceDefinitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from kedge.api.crds import CRD_KINDS, FOLDER, file_name, make_crd, render
from kedge.api.scheme import CLUSTER_STORAGE_CONTAINER, INFERENCE_SERVICE, Kind

kinds = pytest.mark.parametrize("kind", CRD_KINDS, ids=lambda kind: str(kind.kind))


@kinds
def test_the_committed_file_is_up_to_date_and_small(kind: Kind) -> None:
    text = (FOLDER / file_name(kind)).read_text()
    assert text == render(kind), "Run `python -m kedge.api.crds` and commit the result."
    assert len(text) < 200_000
    assert yaml.safe_load(text) == make_crd(kind)


def test_no_other_file_lies_there() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {file_name(kind) for kind in CRD_KINDS}


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema and every schema inside it."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from schemas(schema[key], f"{path}[]")


def schema_of(kind: Kind) -> dict[str, Any]:
    schema: dict[str, Any] = make_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


@kinds
def test_the_schema_is_structural(kind: Kind) -> None:
    for path, schema in schemas(schema_of(kind)):
        mixed = schema.get("x-kubernetes-int-or-string", False)
        free = schema.get("x-kubernetes-preserve-unknown-fields", False)
        assert ("type" in schema) != mixed or (free and not mixed), path
        assert not {"$ref", "allOf", "default", "nullable"} & set(schema), path
        assert ("anyOf" in schema) == mixed, path
        assert not ("properties" in schema and "additionalProperties" in schema), path
        if schema.get("type") == "array":
            assert "items" in schema, path


@kinds
def test_keyed_lists_have_keys_that_are_always_there(kind: Kind) -> None:
    for path, schema in schemas(schema_of(kind)):
        if schema.get("x-kubernetes-list-type") == "map":
            keys = set(schema["x-kubernetes-list-map-keys"])
            assert keys <= set(schema["items"].get("required", [])), path


def test_names_scope_columns_and_subresources() -> None:
    crd = make_crd(INFERENCE_SERVICE)
    version = crd["spec"]["versions"][0]
    assert crd["metadata"]["name"] == "inferenceservices.serving.kserve.io"
    assert crd["spec"]["scope"] == "Namespaced"
    assert crd["spec"]["names"]["shortNames"] == ["isvc"]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][0] == {
        "name": "URL", "type": "string", "jsonPath": ".status.url",
    }  # fmt: skip
    assert make_crd(CLUSTER_STORAGE_CONTAINER)["spec"]["scope"] == "Cluster"


def test_only_the_predictor_is_required_and_the_status_is_open() -> None:
    schema = schema_of(INFERENCE_SERVICE)
    assert schema["properties"]["spec"]["required"] == ["predictor"]
    assert "required" not in schema["properties"]["spec"]["properties"]["predictor"]
    assert schema["properties"]["status"]["x-kubernetes-preserve-unknown-fields"] is True
