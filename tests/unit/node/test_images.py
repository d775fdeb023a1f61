"""What stands in for an image."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kedge.cluster.local.node.images import ImageMissing, Images
from kedge.settings.node import Capacity, NodeSettings


@pytest.fixture
def images(tmp_path: Path) -> Images:
    settings = NodeSettings("n", tmp_path, tmp_path, Capacity(1, 1), environ={"PATH": "/bin"})
    return Images(settings)


def test_built_in_images(images: Images) -> None:
    image = images.resolve("docker.io/kserve/sklearnserver:v0.15.0")
    assert image.command([], ["--model_name=x"]) == [
        sys.executable, "-m", "kedge", "serve", "sklearn", "--model_name=x",
    ]  # fmt: skip
    assert image.env["PYTHONUNBUFFERED"] == "1"
    assert image.env["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/bin"


def test_a_command_replaces_the_entrypoint(images: Images) -> None:
    image = images.resolve("kedge/python:3")
    assert image.command(["python3", "-m", "x"], ["y"]) == [sys.executable, "-m", "x", "y"]
    assert image.command(["sh"], ["-c", "true"]) == ["sh", "-c", "true"]


def test_an_unknown_image_says_how_to_map_it(images: Images, tmp_path: Path) -> None:
    with pytest.raises(ImageMissing) as caught:
        images.resolve("acme/churn:v1")
    assert "acme/churn:v1" in str(caught.value)
    assert str(tmp_path / "images.yaml") in caught.value.fix


def test_user_rules_come_first_and_are_read_again(images: Images, tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text("images: [{pattern: 'kserve/sklearnserver*', command: [mine]}]")
    assert images.resolve("kserve/sklearnserver:v1").argv == ("mine",)
    file.unlink()
    assert images.resolve("kserve/sklearnserver:v1").argv[0] == "python"


def test_an_environment_and_a_folder(images: Images, tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "images.yaml").write_text(
        f"images: [{{pattern: 'acme/*', python: {tmp_path / 'env'}, workdir: /srv/acme}}]"
    )
    image = images.resolve("acme/churn")
    interpreter = str(tmp_path / "env" / "bin" / "python")
    assert image.command(["python", "serve.py"], []) == [interpreter, "serve.py"]
    assert image.workdir == image.env["PYTHONPATH"] == "/srv/acme"


@pytest.mark.parametrize("text", ["images: {", "images: 3", "images: [{command: [x]}]"])
def test_a_broken_file_is_named(images: Images, tmp_path: Path, text: str) -> None:
    (tmp_path / "images.yaml").write_text(text)
    with pytest.raises(ImageMissing, match=r"images\.yaml"):
        images.resolve("kserve/sklearnserver")
