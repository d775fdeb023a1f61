"""KServe's own samples, where they are at hand: each is rendered as reviewed, or refused.

`samples/ACCEPTED.yaml` lists what is accepted, `samples/REFUSED.yaml` what is refused and why,
`docs/reference/fields.md` what becomes of each field; `make golden` writes them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.golden.rendering import load, show

from kedge.api import legacy
from kedge.api.inferenceservice.defaults import apply_defaults
from kedge.api.scheme import INFERENCE_SERVICE, kind_of
from kedge.install.manifests import shipped
from kedge.modes.render import Rendered, render
from kedge.settings.serving import ServingConfig

HERE = Path(__file__).parent / "samples"
FIELDS = Path(__file__).parents[2] / "docs/reference/fields.md"
DATA = Path(__file__).parents[3] / "shared/data/kserve"
SAMPLES = DATA / "samples"

if not SAMPLES.is_dir():
    pytest.skip(f"KServe's samples are not at {SAMPLES}", allow_module_level=True)


def _paths() -> list[Path]:
    """The manifests that hold an InferenceService, or what once was called that."""
    return [
        path.relative_to(SAMPLES)
        for path in sorted(SAMPLES.rglob("*.yaml"))
        if "InferenceService" in path.read_text() and "llmisvc" not in path.parts
    ]


@cache
def _runtimes() -> list[dict[str, Any]]:
    """Kedge's runtimes, and KServe's for the formats that Kedge does not serve itself."""
    own = list(shipped("runtimes"))
    served = {entry["name"] for obj in own for entry in obj["spec"]["supportedModelFormats"]}
    theirs = [
        obj
        for path in sorted((DATA / "runtimes").glob("kserve-*.yaml"))
        for obj in load(path)
        if not served & {entry["name"] for entry in obj["spec"]["supportedModelFormats"]}
        or obj["metadata"]["name"] == "kserve-tritonserver"
    ]
    return [*own, *theirs]


@cache
def _rendered(path: Path) -> Rendered | str:
    """The rendering of a sample, or why it is no YAML."""
    try:
        objects = _read(SAMPLES / path)
    except yaml.YAMLError as error:
        return f"it is not YAML: {str(error).splitlines()[0]}"
    beside = _beside(path)
    own = {name for obj in (*beside, *objects) for name in _formats(obj)}
    runtimes = [obj for obj in _runtimes() if not own & _formats(obj)]
    return render([*beside, *objects], runtimes=runtimes)


def _formats(obj: dict[str, Any]) -> set[str]:
    """The model formats of a runtime."""
    return {entry["name"] for entry in obj.get("spec", {}).get("supportedModelFormats") or ()}


def _read(path: Path) -> list[dict[str, Any]]:
    """The objects of a sample, with what its reader is told to fill in."""
    text = path.read_text()
    for blank, filled in _BLANKS.items():
        text = text.replace(blank, filled)
    return [obj for obj in yaml.safe_load_all(text) if obj]


_BLANKS = {"{username}": "ada", "{docker_username}": "ada", "<namespace>": "default"}
_STORAGE_CONFIG = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "storage-config"},
    "stringData": {"localMinIO": '{"type": "s3", "bucket": "models"}'},
}


def _beside(path: Path) -> list[dict[str, Any]]:
    """What a sample takes for granted: runtimes and secrets in its folder, the storage secret."""
    found = [_STORAGE_CONFIG] if path.parent.name == "storageSpec" else []
    for other in sorted((SAMPLES / path).parent.glob("*.yaml")):
        if other.name != path.name and "InferenceService" not in other.read_text():
            found += [
                obj
                for obj in _read(other)
                if obj["kind"] in ("ClusterServingRuntime", "ServingRuntime", "Secret",
                                   "ServiceAccount")
            ]  # fmt: skip
    return found


@cache
def _outcomes() -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[str]]]:
    """Per file: the objects that are accepted, and why others are refused."""
    accepted: dict[str, list[dict[str, Any]]] = {}
    refused: dict[str, list[str]] = {}
    for full in sorted(SAMPLES.rglob("*.yaml")):
        path = full.relative_to(SAMPLES)
        try:
            objects = _read(full)
        except yaml.YAMLError as error:
            refused[str(path)] = [f"it is not YAML: {str(error).splitlines()[0]}"]
            continue
        for obj in objects:
            errors = _why_refused(path, objects, obj)
            if errors:
                refused.setdefault(str(path), []).extend(errors)
            else:
                accepted.setdefault(str(path), []).append(_accepted(obj))
    return accepted, refused


def _why_refused(path: Path, objects: list[dict[str, Any]], obj: dict[str, Any]) -> list[str]:
    if kind_of(obj) is None and not str(obj["apiVersion"]).startswith("serving.kserve.io/"):
        name = obj["metadata"]["name"]
        kind = f"{obj['apiVersion']} {obj['kind']}"
        return [f"{obj['kind']} {name}: {kind} is not served by this release."]
    beside = [
        other
        for other in objects
        if other is not obj and kind_of(other) not in (None, INFERENCE_SERVICE)
    ]
    own = {name for other in (*_beside(path), *objects) for name in _formats(other)}
    runtimes = [runtime for runtime in _runtimes() if not own & _formats(runtime)]
    return render([*_beside(path), *beside, obj], runtimes=runtimes).errors


def _accepted(obj: dict[str, Any]) -> dict[str, Any]:
    """An accepted object; of a service also the framework, where Kedge brings no runtime for it."""
    entry = {"object": f"{obj['kind']} {obj['metadata']['name']}"}
    if kind_of(legacy.convert(obj)) == INFERENCE_SERVICE:
        full = apply_defaults(legacy.convert(obj), ServingConfig.default())
        model = full["spec"]["predictor"].get("model") or {}
        name = (model.get("modelFormat") or {}).get("name")
        served = {entry for runtime in shipped("runtimes") for entry in _formats(runtime)}
        if name and name not in served:
            entry["format"] = name
    return entry


@pytest.mark.parametrize("path", _paths(), ids=str)
def test_golden_sample(path: Path, golden: Callable[[Path, str], None]) -> None:
    rendered = _rendered(path)
    if isinstance(rendered, str) or not rendered.objects:
        return  # Its reason is in REFUSED.yaml.
    golden(HERE / path.with_suffix(".out.yaml"), show(rendered))


def test_golden_outcomes(golden: Callable[[Path, str], None]) -> None:
    accepted, refused = _outcomes()
    text = yaml.safe_dump(accepted, sort_keys=True, width=100, allow_unicode=True)
    golden(HERE / "ACCEPTED.yaml", f"# Objects of the samples that are accepted.\n{text}")
    text = yaml.safe_dump(refused, sort_keys=True, width=100, allow_unicode=True)
    golden(HERE / "REFUSED.yaml", f"# Samples of which something is refused, and why.\n{text}")


def test_golden_fields(golden: Callable[[Path, str], None]) -> None:
    """One row per field of any sample: how often it is used, refused, warned about."""
    uses: dict[str, Counter[str]] = {}
    notes: dict[str, str] = {}
    for path in _paths():
        rendered = _rendered(path)
        if isinstance(rendered, str):
            continue
        for fields in rendered.fields.values():
            for found in fields:
                name = _generic(found.path)
                uses.setdefault(name, Counter())[found.use] += 1
                if found.note:
                    notes.setdefault(name, found.note)
    rows = [
        f"| `{name}` | {count['used'] or ''} | {count['warned'] or ''} | {count['refused'] or ''} |"
        f" {notes.get(name, '').replace('|', chr(92) + '|')} |"
        for name, count in sorted(uses.items())
    ]
    head = [
        "# What becomes of each field of KServe's samples",
        "",
        "Written by `make golden`. Numbers are occurrences in the samples' InferenceServices.",
        "",
        "| Field | used | warned | refused | why |",
        "| --- | --- | --- | --- | --- |",
    ]
    golden(FIELDS, "\n".join([*head, *rows]) + "\n")


def _generic(path: str) -> str:
    """A field's path without the places of list items."""
    parts = path.split("[")
    kept = [parts[0]]
    for part in parts[1:]:
        key, _, rest = part.partition("]")
        kept.append(f"[]{rest}" if key.isdigit() else f"[{key}]{rest}")
    return "".join(kept)
