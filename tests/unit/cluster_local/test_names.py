"""Names, and names made from a prefix."""

from __future__ import annotations

import pytest

from kedge.api.scheme import INFERENCE_SERVICE, NAMESPACE, POD, SERVICE, Kind
from kedge.cluster.local.names import (
    generate_name,
    key_problem,
    label_value_problem,
    name_problem,
)


@pytest.mark.parametrize(
    ("kind", "name", "good"),
    [
        (POD, "a.b-c", True),
        (POD, "a" * 253, True),
        (POD, "a" * 254, False),
        (POD, "A", False),
        (POD, "-a", False),
        (POD, "a_b", False),
        (POD, "a..b", False),
        (SERVICE, "web-1", True),
        (SERVICE, "1web", False),
        (SERVICE, "a.b", False),
        (SERVICE, "a" * 64, False),
        (NAMESPACE, "1a", True),
        (NAMESPACE, "a.b", False),
        (INFERENCE_SERVICE, "iris", True),
        (INFERENCE_SERVICE, "iris/x", False),
    ],
)
def test_names(kind: Kind, name: str, good: bool) -> None:
    assert (name_problem(kind, name) == "") is good


def test_generated_names_are_short_and_different() -> None:
    names = {generate_name("web-") for _ in range(50)}
    assert len(names) == 50
    assert all(name.startswith("web-") and len(name) == 9 for name in names)
    assert len(generate_name("x" * 100)) == 63


@pytest.mark.parametrize(
    ("key", "good"),
    [("app", True), ("example.com/app", True), ("a b", False), ("/app", False), ("-x", False),
     ("a/b/c", False), ("x" * 64, False)],
)  # fmt: skip
def test_keys(key: str, good: bool) -> None:
    assert (key_problem(key) == "") is good


@pytest.mark.parametrize(("value", "good"), [("", True), ("a.b_c-d", True), ("a b", False)])
def test_label_values(value: str, good: bool) -> None:
    assert (label_value_problem(value) == "") is good
