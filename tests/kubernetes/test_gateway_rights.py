"""The gateways' rights: none was missing in this session, and none was given for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kubernetes.gateways import GATEWAY
from tests.kubernetes.world import HOME, World

from kedge.install.rights import GATEWAY_CLUSTER_RULES, GATEWAY_HOME_RULES, GATEWAY_RULES

pytestmark = [pytest.mark.kubernetes, pytest.mark.usefixtures("edge_account")]
ACCOUNT = f"system:serviceaccount:{HOME}:{GATEWAY}"
Use = tuple[str, str, str]


def uses(world: World) -> dict[Use, set[int]]:
    """What gateways did, and how it was answered."""
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


def test_no_right_was_missing(edge: World) -> None:
    assert [use for use, codes in uses(edge).items() if 403 in codes] == []


def test_every_right_was_used(edge: World, request: pytest.FixtureRequest) -> None:
    here = Path(__file__)
    wanted = {path.name for path in here.parent.glob("test_gateway*.py")}
    if wanted - {item.path.name for item in request.session.items}:
        pytest.skip("only all of the gateway's tests use every right")
    given = {
        (rule.group, resource, verb)
        for rule in (*GATEWAY_RULES, *GATEWAY_CLUSTER_RULES, *GATEWAY_HOME_RULES)
        for resource in rule.resources
        for verb in rule.verbs
    }
    used = set(uses(edge))
    # An apply that makes an object is audited as a patch, and needs the right to create as well.
    created = {(group, resource, "create") for group, resource, verb in used if verb == "patch"}
    assert sorted(given - used - created) == []
