"""Labels and annotations of a component's objects: who wins over whom, and what stays out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kedge.controllers.inferenceservice.names import (
    COMPONENT_LABEL,
    ISVC_LABEL,
    ComponentKind,
)

Texts = dict[str, str]


def component_labels(
    isvc: str, kind: ComponentKind, layers: Iterable[Mapping[str, Any] | None]
) -> Texts:
    """Labels of a component; later layers win, and what identifies the service wins over all."""
    labels = _join(layers)
    labels[ISVC_LABEL] = isvc
    labels[COMPONENT_LABEL] = kind.value
    return labels


def component_annotations(
    layers: Iterable[Mapping[str, Any] | None], disallowed: frozenset[str]
) -> Texts:
    """Annotations of a component; later layers win, disallowed ones are in none."""
    return {key: value for key, value in _join(layers).items() if key not in disallowed}


def without(texts: Mapping[str, str], disallowed: frozenset[str]) -> Texts:
    return {key: value for key, value in texts.items() if key not in disallowed}


def _join(layers: Iterable[Mapping[str, Any] | None]) -> Texts:
    joined: Texts = {}
    for layer in layers:
        joined.update({key: str(value) for key, value in (layer or {}).items()})
    return joined
