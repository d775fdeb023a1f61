"""The shipped ConfigMap says what the defaults are, and describes every option."""

from __future__ import annotations

import json
import re

import yaml

from kedge.settings import document
from kedge.settings.serving import ServingConfig


def test_the_committed_file_is_up_to_date() -> None:
    assert document.FILE.read_text() == document.render(), (
        "Run `python -m kedge.settings.document` and commit the result."
    )


def test_it_means_the_defaults() -> None:
    shipped = yaml.safe_load(document.FILE.read_text())
    assert ServingConfig.from_config_map(shipped) == ServingConfig.default()


def test_its_example_is_every_option_in_json() -> None:
    example = yaml.safe_load(document.FILE.read_text())["data"]["_example"]
    text = "\n".join(line for line in example.splitlines() if not line.lstrip().startswith("#"))
    keys = re.findall(r"^(\w+): (\{.*?^\})", text, re.MULTILINE | re.DOTALL)
    assert [key for key, _ in keys] == [field.encode_name for field in ServingConfig.sections()]
    read_back = ServingConfig.from_config_map({"data": dict(keys)})
    assert read_back == ServingConfig.default()
    assert all(json.loads(text) for _, text in keys)
