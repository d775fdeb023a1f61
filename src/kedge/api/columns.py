"""The columns that `kubectl get` shows for each kind, as a CustomResourceDefinition words them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    GATEWAY,
    GATEWAY_CLASS,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    Kind,
)

ColumnType = Literal["string", "integer", "number", "boolean", "date"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column; the object's name always comes before the first.

    Attributes:
        path: JSONPath of the value inside the object.
        priority: 0 is always shown, more only with `-o wide`.
    """

    name: str
    path: str
    type: ColumnType = "string"
    priority: int = 0
    description: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As `additionalPrinterColumns` has it."""
        column: dict[str, Any] = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            column["description"] = self.description
        if self.priority:
            column["priority"] = self.priority
        return column


AGE = Column("Age", ".metadata.creationTimestamp", "date")
_TRAFFIC = ".status.components.predictor.traffic"
_PREVIOUS, _LATEST = f"{_TRAFFIC}[?(@.tag=='prev')]", f"{_TRAFFIC}[?(@.latestRevision==true)]"

_RUNTIME = (
    Column("Disabled", ".spec.disabled", "boolean"),
    Column("ModelType", ".spec.supportedModelFormats[*].name"),
    Column("Containers", ".spec.containers[*].name"),
    AGE,
)

COLUMNS: dict[Kind, tuple[Column, ...]] = {
    INFERENCE_SERVICE: (
        Column("URL", ".status.url"),
        Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        Column("Prev", f"{_PREVIOUS}.percent", "integer"),
        Column("Latest", f"{_LATEST}.percent", "integer"),
        Column("PrevRolledoutRevision", f"{_PREVIOUS}.revisionName"),
        Column("LatestReadyRevision", f"{_LATEST}.revisionName"),
        AGE,
    ),
    SERVING_RUNTIME: _RUNTIME,
    CLUSTER_SERVING_RUNTIME: _RUNTIME,
    HTTP_ROUTE: (Column("Hostnames", ".spec.hostnames"), AGE),
    GATEWAY_CLASS: (
        Column("Controller", ".spec.controllerName"),
        Column("Accepted", ".status.conditions[?(@.type=='Accepted')].status"),
        AGE,
    ),
    GATEWAY: (
        Column("Class", ".spec.gatewayClassName"),
        Column("Address", ".status.addresses[*].value"),
        Column("Programmed", ".status.conditions[?(@.type=='Programmed')].status"),
        AGE,
    ),
}
