"""KServe's own samples, where they are at hand: each is rendered as reviewed, or refused.

`samples/REFUSED.yaml` lists what is refused and why, `samples/FIELDS.md` what becomes of each
field; both are written by `make golden`.
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

from kedge.modes.render import Rendered, render
from kedge.modes.seed import shipped

HERE = Path(__file__).parent / "samples"
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


def _refusals() -> dict[str, list[str]]:
    refused = {}
    for path in _paths():
        rendered = _rendered(path)
        if isinstance(rendered, str):
            refused[str(path)] = [rendered]
        elif rendered.errors:
            refused[str(path)] = rendered.errors
    return refused


@pytest.mark.parametrize("path", _paths(), ids=str)
def test_golden_sample(path: Path, golden: Callable[[Path, str], None]) -> None:
    rendered = _rendered(path)
    if isinstance(rendered, str) or not rendered.objects:
        return  # Its reason is in REFUSED.yaml.
    golden(HERE / path.with_suffix(".out.yaml"), show(rendered))


def test_golden_refusals(golden: Callable[[Path, str], None]) -> None:
    text = yaml.safe_dump(_refusals(), sort_keys=True, width=100, allow_unicode=True)
    golden(HERE / "REFUSED.yaml", f"# Samples that are refused, and why.\n{text}")


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
        "Written by `make golden`. Numbers are the samples' InferenceServices that set the field.",
        "",
        "| Field | used | warned | refused | why |",
        "| --- | --- | --- | --- | --- |",
    ]
    golden(HERE / "FIELDS.md", "\n".join([*head, *rows]) + "\n")


def _generic(path: str) -> str:
    """A field's path without the places of list items."""
    parts = path.split("[")
    kept = [parts[0]]
    for part in parts[1:]:
        key, _, rest = part.partition("]")
        kept.append(f"[]{rest}" if key.isdigit() else f"[{key}]{rest}")
    return "".join(kept)
