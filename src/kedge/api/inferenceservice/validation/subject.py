"""The InferenceService under validation, and what the rules ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kedge.api.inferenceservice.defaults import (
    FRAMEWORKS,
    SERVER_CONTAINER,
    apply_defaults,
    deployment_mode,
)
from kedge.settings.serving import DeploymentMode, ServingConfig

Object = dict[str, Any]

AUTOSCALER_CLASS = "serving.kserve.io/autoscalerClass"
KNATIVE_AUTOSCALER_CLASS = "autoscaling.knative.dev/class"
KNATIVE_HPA = "hpa.autoscaling.knative.dev"
WORKER_CONTAINER = "worker-container"
TRANSFORMER_CONTAINER = "transformer-container"


@dataclass(frozen=True)
class Part:
    """One component, and where it stands in the object."""

    path: str
    spec: Object


@dataclass(frozen=True)
class Subject:
    """An object and its surroundings.

    Attributes:
        isvc: the object as it was sent.
        old: the stored object, on update.
        config: settings that defaults come from.
    """

    isvc: Object
    old: Object | None
    config: ServingConfig

    @property
    def metadata(self) -> Object:
        return self.isvc.get("metadata") or {}

    @property
    def name(self) -> str:
        return str(self.metadata.get("name") or "")

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.get("annotations") or {}

    @property
    def spec(self) -> Object:
        return self.isvc.get("spec") or {}

    @cached_property
    def full(self) -> Object:
        """The object with its defaults."""
        return apply_defaults(self.isvc, self.config)

    @cached_property
    def mode(self) -> DeploymentMode:
        return deployment_mode(self.isvc, self.config)

    @property
    def predictor(self) -> Part:
        return Part("spec.predictor", self.spec.get("predictor") or {})

    @property
    def components(self) -> list[Part]:
        """Predictor, transformer and explainer, as far as present."""
        names = ("predictor", "transformer", "explainer")
        return [Part(f"spec.{name}", self.spec[name]) for name in names if self.spec.get(name)]

    @property
    def canaries(self) -> list[Part]:
        """The canary entries' predictors."""
        entries = self.spec.get("canary") or []
        return [
            Part(f"spec.canary[{i}].predictor", entry.get("predictor") or {})
            for i, entry in enumerate(entries)
        ]

    @property
    def predictors(self) -> list[Part]:
        return [self.predictor, *self.canaries]

    def autoscaler_class(self, part: Part) -> str:
        """The annotation's value, the component's own first; empty when there is none."""
        own = (part.spec.get("annotations") or {}).get(AUTOSCALER_CLASS)
        return str(own or self.annotations.get(AUTOSCALER_CLASS) or "")


def models(part: Part) -> Iterator[Part]:
    """A predictor's `model` and framework keys, as far as present."""
    for key in ("model", *FRAMEWORKS):
        if part.spec.get(key) is not None:
            yield Part(f"{part.path}.{key}", part.spec[key])


def containers(part: Part, *fields: str) -> Iterator[Part]:
    """The containers of a pod spec, each with its path."""
    for name in fields or ("containers",):
        for i, container in enumerate(part.spec.get(name) or []):
            yield Part(f"{part.path}.{name}[{i}]", container)


def server_container(part: Part) -> Part | None:
    """The container that is the component itself, by the naming rules of the defaults."""
    listed = list(containers(part))
    named = next((c for c in listed if c.spec.get("name") == SERVER_CONTAINER), None)
    if named is not None or not listed:
        return named
    takes_first = not part.path.endswith("predictor") or len(listed) == 1
    return listed[0] if takes_first or not listed[0].spec.get("name") else None


def env_value(container: Object, name: str) -> str | None:
    """An environment variable's value; empty when it comes from elsewhere, None when absent."""
    for entry in container.get("env") or []:
        if entry.get("name") == name:
            return str(entry.get("value") or "")
    return None


def single_uri(part: Part) -> tuple[str, str] | None:
    """Where a component's one URI is written, and the URI; None when it has none."""
    for model in (*models(part), Part(f"{part.path}.art", part.spec.get("art") or {})):
        if model.spec.get("storageUri"):
            return f"{model.path}.storageUri", str(model.spec["storageUri"])
    server = server_container(part)
    uri = env_value(server.spec, "STORAGE_URI") if server is not None else None
    if server is None or not uri:
        return None
    return f"{server.path}.env[STORAGE_URI]", uri
