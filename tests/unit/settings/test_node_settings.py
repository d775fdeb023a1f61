"""Which image runs which command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kedge.settings.node import (
    DEFAULT_IMAGES,
    Capacity,
    ImagesError,
    NodeSettings,
    image_names,
    parse_images,
)


@pytest.fixture
def settings() -> NodeSettings:
    return NodeSettings(
        name="n", data_dir=Path("/d"), runtime_dir=Path("/r"), capacity=Capacity(1, 1)
    )


@pytest.mark.parametrize(
    ("image", "last"),
    [
        ("kserve/sklearnserver:latest", "sklearn"),
        ("docker.io/kserve/sklearnserver:v0.20.0", "sklearn"),
        ("kserve/predictiveserver:latest", "predictive"),
        ("docker.io/kserve/huggingfaceserver:v0.15.0", "huggingface"),
        ("kedge/pythonserver:latest", "python"),
        ("kedge/onnxserver", "onnx"),
        ("localhost:5000/kedge/xgbserver@sha256:00", "xgboost"),
        ("kedge/lgbserver", "lightgbm"),
        ("kserve/storage-initializer:v1", "kedge.storage"),
        ("kedge/python:3.11", "python"),
    ],
)
def test_known_images(settings: NodeSettings, image: str, last: str) -> None:
    rule = settings.command_of(image)
    assert rule is not None
    assert rule.argv[-1] == last


def test_nothing_maps_to_an_unknown_image(settings: NodeSettings) -> None:
    assert settings.command_of("acme/model:1") is None


def test_an_image_has_several_names() -> None:
    assert image_names("reg.example:5000/a/b:1") == (
        "reg.example:5000/a/b:1", "reg.example:5000/a/b", "a/b:1", "a/b",
    )  # fmt: skip


def test_the_users_rules_come_first(settings: NodeSettings) -> None:
    own = parse_images("images: [{pattern: 'kserve/*', command: [mine, 1], env: {A: 1}}]")
    rule = replace(settings, images=(*own, *DEFAULT_IMAGES)).command_of("kserve/sklearnserver")
    assert rule is not None
    assert (rule.argv, dict(rule.env)) == (("mine", "1"), {"A": "1"})


def test_an_empty_file_has_no_rules() -> None:
    assert parse_images("") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("images: [", "is not YAML"),
        ("images: 3", "`images` is not a list"),
        ("images: [3]", "images[0] is not a mapping"),
        ("images: [{pattern: a}]", "images[0] has no `command` list"),
        ("images: [{command: [a]}]", "images[0] has no `pattern`"),
        ("images: [{pattern: a, command: [b], argv: c}]", "unknown key `argv`"),
        ("images: [{pattern: a, command: [b], env: [c]}]", "`env` is not a mapping"),
    ],
)
def test_mistakes_in_the_file(text: str, said: str) -> None:
    with pytest.raises(ImagesError, match=r" Fix: ") as caught:
        parse_images(text)
    assert said in str(caught.value)


def test_this_machine_has_cores_and_memory() -> None:
    capacity = Capacity.of_this_machine()
    assert capacity.cpu >= 1
    assert capacity.memory > 2**20
