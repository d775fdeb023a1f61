"""CustomResourceDefinitions: Kedge's own, and Gateway API's where a cluster has none.

The latter are written from Kedge's types, in its own words, and hold what Kedge reads and writes;
all else passes through them. Where somebody else installed Gateway API, theirs stay as they are.
"""

from __future__ import annotations

from kedge.api.crds import make_crd
from kedge.api.scheme import GATEWAY, GATEWAY_CLASS, HTTP_ROUTE
from kedge.cluster.base import Object
from kedge.install.manifests import shipped
from kedge.install.objects.meta import labels
from kedge.install.values import Values

_APPROVAL = "api-approved.kubernetes.io"
_UNAPPROVED = "unapproved, written by Kedge; install Gateway API's own to replace it"


def make_serving_crds(values: Values) -> list[Object]:
    return [_labelled(crd, values) for crd in shipped("crds")]


def make_gateway_crds(values: Values) -> list[Object]:
    """GatewayClass, Gateway and HTTPRoute; the API server wants to be told who approved them."""
    made = []
    for kind in (GATEWAY_CLASS, GATEWAY, HTTP_ROUTE):
        crd = _labelled(make_crd(kind), values)
        crd["metadata"]["annotations"] = {_APPROVAL: _UNAPPROVED}
        made.append(crd)
    return made


def _labelled(crd: Object, values: Values) -> Object:
    metadata = {**crd["metadata"], "labels": labels(values, "crds")}
    return {**crd, "metadata": metadata}
