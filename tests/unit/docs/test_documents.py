"""What the documents name exists, and what they show is accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kedge.api.scheme import INFERENCE_SERVICE, kind_of
from kedge.modes.render import render
from kedge.settings.node import parse_images

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src/kedge"
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOWTOS = sorted((ROOT / "docs/howto").glob("*.md"))


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a document in one language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`((?:\w+/)+\w+\.\w+)`", ARCHITECTURE))), ids=str
)
def test_architecture_names_files_that_exist(name: str) -> None:
    path = name.replace("isvc/", "controllers/inferenceservice/", 1)
    assert (SOURCE / path).is_file() or (ROOT / path).is_file()


def test_architecture_describes_every_package() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    described = set(re.findall(r"`(\w+)`", ARCHITECTURE))
    assert packages <= described


@pytest.mark.parametrize("path", HOWTOS, ids=lambda path: path.name)
def test_yaml_of_howtos_is_accepted(path: Path) -> None:
    for text in blocks(path, "yaml"):
        objects: list[dict[str, Any]] = list(yaml.safe_load_all(text))
        if "images" in objects[0]:
            assert parse_images(text)
            continue
        assert {kind_of(obj) for obj in objects} == {INFERENCE_SERVICE}
        rendered = render(objects)
        assert (rendered.errors, rendered.warnings) == ([], [])


@pytest.mark.parametrize("path", HOWTOS, ids=lambda path: path.name)
def test_python_of_howtos_compiles(path: Path) -> None:
    for text in blocks(path, "python"):
        compile(text, str(path), "exec")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_names_somebodys_machine(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"(?<![\w.])/(?:home|root|Users|work|opt|workspace)/\S*", text)
    assert not re.findall(r"(?i)\bpypi\.\S+|\bindex-url\b|files\.pythonhosted\S*", text)
