"""`config-gc` and `config-network`."""

from __future__ import annotations

import pytest

from kedge.settings.revisions import RevisionConfig
from kedge.settings.serving import ConfigError


def test_defaults_are_knatives() -> None:
    assert RevisionConfig.parse({}, {}) == RevisionConfig(172800, 54000, 20, 1000, 0)


def test_keys() -> None:
    gc = {
        "retain-since-create-time": "1h30m",
        "retain-since-last-active-time": "disabled",
        "min-non-active-revisions": "0",
        "max-non-active-revisions": "disabled",
        "_example": "whatever",
    }
    found = RevisionConfig.parse(gc, {"rollout-duration": "240"})
    assert found == RevisionConfig(5400, None, 0, None, 240)


@pytest.mark.parametrize(
    ("gc", "network", "key"),
    [
        ({"retain-since-create-time": "soon"}, {}, "retain-since-create-time"),
        ({"retain-since-create-time": "-1h"}, {}, "retain-since-create-time"),
        ({"min-non-active-revisions": "disabled"}, {}, "min-non-active-revisions"),
        ({"max-non-active-revisions": "10"}, {}, "max-non-active-revisions"),
        ({}, {"rollout-duration": "fast"}, "rollout-duration"),
    ],
)
def test_mistakes_name_the_key(gc: dict[str, str], network: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError, match=f"`{key}`.*Fix: "):
        RevisionConfig.parse(gc, network)
