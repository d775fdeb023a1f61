"""The controllers' rights: none was missing in this session, and none was given for nothing."""

from __future__ import annotations

import pytest
from tests.kubernetes.world import HOME, ControllerProcess, World

from kedge.install.rbac import CONTROLLER_HOME_RULES, CONTROLLER_RULES
from kedge.settings.installation import CONTROLLER

pytestmark = [pytest.mark.kubernetes, pytest.mark.usefixtures("controller")]
ACCOUNT = f"system:serviceaccount:{HOME}:{CONTROLLER}"
Use = tuple[str, str, str]

SELDOM: frozenset[Use] = frozenset(
    {
        # Of an event that an earlier controller told already, and its count.
        ("", "events", "get"),
        ("", "events", "patch"),
        # Where such an add-on is installed and was used.
        ("keda.sh", "scaledobjects", "create"),
        ("opentelemetry.io", "opentelemetrycollectors", "create"),
        # A bundle of certificate authorities that is copied.
        ("", "configmaps", "get"),
        ("", "configmaps", "create"),
        ("", "configmaps", "patch"),
        # Every ninety days.
        ("", "secrets", "update"),
    }
)
"""Rights whose use these tests do not bring about; each has its reason."""


def _uses(world: World) -> dict[Use, set[int]]:
    """What the controller did, and how it was answered."""
    found: dict[Use, set[int]] = {}
    for entry in world.api.audited():
        if entry["user"]["username"] != ACCOUNT or "objectRef" not in entry:
            continue
        reference = entry["objectRef"]
        resource = reference["resource"]
        if "subresource" in reference:
            resource += f"/{reference['subresource']}"
        use = (reference.get("apiGroup", ""), resource, entry["verb"])
        found.setdefault(use, set()).add(entry["responseStatus"]["code"])
    return found


_REFUSED_BY_OTHERS = ("exceeded quota", "it is being terminated")
"""Told as forbidden, too, but no matter of rights."""


def test_no_right_was_missing(world: World, controller: ControllerProcess) -> None:
    refused = [
        str(entry["responseStatus"].get("message", ""))
        for entry in world.api.audited()
        if entry["user"]["username"] == ACCOUNT and entry["responseStatus"]["code"] == 403
    ]
    assert not [said for said in refused if not any(one in said for one in _REFUSED_BY_OTHERS)]


def test_every_right_was_used(world: World, request: pytest.FixtureRequest) -> None:
    if len({item.path.name for item in request.session.items}) < 5:
        pytest.skip("only the whole of tests/kubernetes uses every right")
    given = {
        (rule.group, resource, verb)
        for rule in (*CONTROLLER_RULES, *CONTROLLER_HOME_RULES)
        for resource in rule.resources
        for verb in rule.verbs
    }
    used = set(_uses(world))
    # An apply that makes an object is audited as a patch, and needs the right to create as well.
    created = {(group, resource, "create") for group, resource, verb in used if verb == "patch"}
    assert sorted(given - used - created - SELDOM) == []
