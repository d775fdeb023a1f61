"""Templates, hashes, revision numbers, and what of the history may go."""

from __future__ import annotations

from typing import Any

from kedge.cluster.base import Object
from kedge.cluster.local.workloads.deployments.revisions import (
    HASH_LABEL,
    REVISION,
    REVISION_HISTORY,
    current_annotations,
    expired,
    make_replica_set,
    same_template,
    split,
    template_hash,
)

TEMPLATE: Object = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {"containers": [{"name": "main", "image": "i"}]},
}


def deployment(**annotations: str) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "ns", "uid": "u", "annotations": annotations},
        "spec": {
            "replicas": 2,
            "minReadySeconds": 3,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {"app": "x"}},
            "template": TEMPLATE,
        },
    }


def numbered(revision: int, size: int = 0, **status: Any) -> Object:
    return {
        "metadata": {
            "name": f"d-{revision}",
            "creationTimestamp": str(revision),
            "generation": 1,
            "annotations": {REVISION: str(revision)},
        },
        "spec": {"replicas": size, "template": {"spec": {"revision": revision}}},
        "status": {"observedGeneration": 1, **status},
    }


def test_a_replica_set_selects_its_own_pods_only() -> None:
    made = make_replica_set(
        deployment(note="n", **{"kubectl.kubernetes.io/last-applied-configuration": "{}"}), 4, 2
    )
    digest = template_hash(TEMPLATE)
    assert made["metadata"]["name"] == f"d-{digest}"
    assert made["spec"]["selector"]["matchLabels"] == {"app": "x", HASH_LABEL: digest}
    assert made["spec"]["template"]["metadata"]["labels"][HASH_LABEL] == digest
    assert made["spec"]["minReadySeconds"] == 3
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert made["metadata"]["annotations"] == {
        "note": "n",
        REVISION: "4",
        "deployment.kubernetes.io/desired-replicas": "2",
        "deployment.kubernetes.io/max-replicas": "3",
    }


def test_the_hash_is_stable_short_and_avoids_collisions() -> None:
    assert template_hash(TEMPLATE) == template_hash({**TEMPLATE, "spec": dict(TEMPLATE["spec"])})
    assert len(template_hash(TEMPLATE)) == 10
    assert template_hash(TEMPLATE) != template_hash(TEMPLATE, 1)


def test_templates_are_compared_without_the_hash_and_what_says_nothing() -> None:
    hashed = {**TEMPLATE, "metadata": {"labels": {"app": "x", HASH_LABEL: "h"}}}
    empty = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "securityContext": {}, "volumes": None}}
    other = {**TEMPLATE, "spec": {"containers": [{"name": "main", "image": "j"}]}}
    assert same_template(TEMPLATE, hashed)
    assert same_template(TEMPLATE, empty)
    assert not same_template(TEMPLATE, other)


def test_the_oldest_set_of_the_template_is_the_current_one() -> None:
    first, second, third = numbered(1), numbered(2), numbered(3)
    first["spec"]["template"] = third["spec"]["template"] = TEMPLATE
    new, old = split(deployment(), [third, second, first])
    assert new is first
    assert old == [third, second]


def test_an_old_revision_made_current_remembers_its_numbers() -> None:
    new = numbered(2)
    new["metadata"]["annotations"][REVISION_HISTORY] = "1"
    annotations = current_annotations(deployment(note="n"), new, 5)
    assert annotations == {"note": "n", REVISION: "5", REVISION_HISTORY: "1,2"}
    assert current_annotations(deployment(), numbered(5), 5) == {REVISION: "5"}


def test_only_empty_sets_beyond_the_limit_expire_the_oldest_first() -> None:
    old = [numbered(3), numbered(1), numbered(2)]
    assert [one["metadata"]["name"] for one in expired(deployment(), old)] == ["d-1", "d-2"]
    assert expired(deployment(), [numbered(1, size=1), numbered(2)]) == []
    assert expired(deployment(), [numbered(1, replicas=1), numbered(2)]) == []
    assert expired(deployment(), [numbered(1, observedGeneration=0), numbered(2)]) == []
