"""Objects without the lists of who manages which field."""

from __future__ import annotations

from kedge.cluster.base import Object
from kedge.cluster.slim import slim_down


def test_only_who_counts_replicas_is_kept() -> None:
    counting = {"manager": "kedge-autoscaler", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    applied = {"manager": "kedge", "fieldsV1": {"f:spec": {"f:template": {}}}}
    deployment: Object = {
        "metadata": {"managedFields": [applied, counting]},
        "spec": {"replicas": 2},
    }
    slim_down(deployment)
    assert deployment["metadata"]["managedFields"] == [counting]
    service: Object = {"metadata": {"managedFields": [applied]}, "spec": {}}
    slim_down(service)
    assert service["metadata"] == {}
    uncounted: Object = {"metadata": {"managedFields": [applied]}, "spec": {"replicas": 1}}
    slim_down(uncounted)
    assert uncounted["metadata"]["managedFields"] == [{"manager": "kedge"}]
    bookmark: Object = {"metadata": {"resourceVersion": "7"}}
    slim_down(bookmark)
    assert bookmark == {"metadata": {"resourceVersion": "7"}}
