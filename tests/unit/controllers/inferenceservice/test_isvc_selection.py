"""Which runtime serves a model."""

from __future__ import annotations

from typing import Any

import pytest

from kedge.controllers.inferenceservice.errors import (
    BuildError,
    NoSupportingRuntime,
    RuntimeDisabled,
    RuntimeNotRecognized,
)
from kedge.controllers.inferenceservice.runtime_selection import select


def runtime(name: str, *formats: str, created: str = "", **spec: Any) -> dict[str, Any]:
    """A runtime; a format is written `name:version:priority`, `!` in front for not automatic."""
    entries = []
    for text in formats:
        wanted, _, rest = text.lstrip("!").partition(":")
        version, _, priority = rest.partition(":")
        entry: dict[str, Any] = {"name": wanted, "autoSelect": not text.startswith("!")}
        if version:
            entry["version"] = version
        if priority:
            entry["priority"] = int(priority)
        entries.append(entry)
    return {
        "kind": "ClusterServingRuntime",
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"supportedModelFormats": entries, **spec},
    }


def model(name: str = "sklearn", **fields: Any) -> dict[str, Any]:
    version = fields.pop("version", None)
    return {"modelFormat": {"name": name, **({"version": version} if version else {})}, **fields}


@pytest.mark.parametrize(
    ("wanted", "runtimes", "chosen"),
    [
        ("priority", [runtime("a", "sklearn::1"), runtime("b", "sklearn::2")], "b"),
        ("a priority before none", [runtime("a", "sklearn"), runtime("b", "sklearn::1")], "b"),
        (
            "lowest protocol",
            [
                runtime("a", "sklearn", protocolVersions=["v2", "v1"]),
                runtime("b", "sklearn", protocolVersions=["v1"]),
            ],
            "a",
        ),
        (
            "newest",
            [runtime("a", "sklearn", created="2025"), runtime("b", "sklearn", created="2026")],
            "b",
        ),
        ("name", [runtime("b", "sklearn"), runtime("a", "sklearn")], "a"),
        (
            "priority of the first entry of that name, whatever its version",
            [runtime("a", "!sklearn:0:9", "sklearn:1:1"), runtime("b", "sklearn:1:5")],
            "a",
        ),
        (
            "not the disabled",
            [runtime("a", "sklearn", disabled=True), runtime("b", "sklearn")],
            "b",
        ),
        (
            "not multi-model",
            [runtime("a", "sklearn", multiModel=True), runtime("b", "sklearn")],
            "b",
        ),
        ("not multi-node", [runtime("a", "sklearn", workerSpec={}), runtime("b", "sklearn")], "a"),
        (
            "not multi-node when it says something",
            [runtime("a", "sklearn", workerSpec={"containers": [{}]}), runtime("b", "sklearn")],
            "b",
        ),
        ("only automatic ones", [runtime("a", "!sklearn"), runtime("b", "sklearn")], "b"),
        (
            "v1 when nothing is said",
            [runtime("a", "sklearn", protocolVersions=["v2"]), runtime("b", "sklearn")],
            "b",
        ),
    ],
)
def test_the_best_is_chosen(wanted: str, runtimes: list[dict[str, Any]], chosen: str) -> None:
    assert select(model(), [], runtimes).name == chosen


def test_the_namespace_comes_first() -> None:
    own = [runtime("own", "sklearn")]
    assert select(model(), own, [runtime("theirs", "sklearn::9")]).name == "own"


def test_versions_are_compared_as_text() -> None:
    runtimes = [runtime("one", "sklearn:1"), runtime("none", "sklearn")]
    assert select(model(version="1"), [], runtimes).name == "one"
    for version in ("1.2", "01"):
        with pytest.raises(NoSupportingRuntime):
            select(model(version=version), [], runtimes)


def test_the_protocol_of_a_model_that_names_none() -> None:
    found = select(model(runtime="a"), [], [runtime("a", "sklearn", protocolVersions=["v2"])])
    assert found.protocol == "v2"
    assert select(model(), [], [runtime("a", "sklearn")]).protocol == ""


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"runtime": "none"}, RuntimeNotRecognized, ["none", "a, off"]),
        ({"runtime": "off"}, RuntimeDisabled, ["off", "kubectl patch clusterservingruntime off"]),
        ({"runtime": "a", "protocolVersion": "v2"}, NoSupportingRuntime, ["v2", "one of v1"]),
        ({"runtime": "a", "version": "2"}, NoSupportingRuntime, ["version `2`", "sklearn 1"]),
        ({"name": "sklaern"}, NoSupportingRuntime, ["sklaern", "one of sklearn, xgboost"]),
        ({"protocolVersion": "grpc-v2"}, NoSupportingRuntime, ["protocolVersion", "one of v1"]),
        ({"version": "7"}, NoSupportingRuntime, ["version `7`", "one of 1, or remove"]),
        ({"name": "xgboost"}, NoSupportingRuntime, ["runtime` to one of a"]),
    ],
)
def test_what_cannot_be_served(
    fields: dict[str, Any], error: type[BuildError], words: list[str]
) -> None:
    runtimes = [
        runtime("a", "sklearn:1", "!xgboost", protocolVersions=["v1"]),
        runtime("off", "sklearn", disabled=True),
    ]
    name = fields.pop("name", "sklearn")
    with pytest.raises(error) as raised:
        select(model(name, **fields), [], runtimes)
    assert raised.value.model_reason == raised.value.reason
    for word in words:
        assert word in str(raised.value), str(raised.value)
