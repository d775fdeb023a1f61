"""An InferenceService taken apart: each component with its metadata and its whole pod.

One component that cannot be built does not keep the others from being built.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from kedge.api.inferenceservice.defaults import deployment_mode
from kedge.cluster.base import Object
from kedge.controllers.inferenceservice import multinode, names, pod, server_types
from kedge.controllers.inferenceservice.components import Component, ServicePlan, Warned, Worker
from kedge.controllers.inferenceservice.effects import (
    annotation_warnings,
    effect_warnings,
    metric_annotations,
    sidecar_annotations,
)
from kedge.controllers.inferenceservice.errors import BuildError, InvalidSpec
from kedge.controllers.inferenceservice.merge import Tree, get_env
from kedge.controllers.inferenceservice.metadata import component_annotations, component_labels
from kedge.controllers.inferenceservice.names import (
    DEPLOYMENT_MODE,
    SERVER_CONTAINER,
    ComponentKind,
    component_name,
)
from kedge.controllers.inferenceservice.runtime_selection import Selected, select
from kedge.controllers.inferenceservice.serving_flags import ServingFlags
from kedge.controllers.inferenceservice.storage.inject import StorageRequest, add_storage
from kedge.controllers.inferenceservice.storage.sources import read_sources
from kedge.controllers.inferenceservice.surroundings import Surroundings
from kedge.settings.serving import DeploymentMode, ServingConfig

_AGGRESSIVE_PERIOD = 1
_STANDARD_PERIOD = 10
_CLEARED_IN_CANARY = ("maxReplicas", "scaleTarget", "scaleMetric", "autoScaling")
_NOT_INHERITED = ("deploymentStrategy", "minReplicas", "canaryTrafficPercent")


def plan_service(isvc: Object, around: Surroundings, config: ServingConfig) -> ServicePlan:
    """Take apart `isvc`, a resource with its defaults filled in."""
    return _Assembly(isvc, around, config).plan()


class _Assembly:
    """One service on its way to its components."""

    def __init__(self, isvc: Object, around: Surroundings, config: ServingConfig) -> None:
        self.isvc = isvc
        self.around = around
        self.config = config
        self.mode = deployment_mode(isvc, config)
        self.metadata = isvc["metadata"]
        self.name = str(self.metadata["name"])
        self.namespace = str(self.metadata["namespace"])
        own = self.metadata.get("annotations") or {}
        self.warnings: list[Warned] = annotation_warnings("metadata", own)

    def plan(self) -> ServicePlan:
        built: dict[ComponentKind, Component] = {}
        errors: dict[ComponentKind, BuildError] = {}
        canaries: list[Component] = []
        for kind in ComponentKind:
            spec = self.isvc["spec"].get(kind.value)
            if spec is None:
                continue
            try:
                self._check_mode()
                built[kind] = self._component(kind, spec)
                if kind is ComponentKind.PREDICTOR:
                    canaries = self._canaries(spec)
            except BuildError as error:
                error.component = kind.value
                errors[kind] = error
            self.warnings += effect_warnings(kind, spec)
        return ServicePlan(
            isvc=self.isvc,
            mode=self.mode,
            config=self.config,
            cluster_domain=self.around.cluster_domain,
            components=built,
            canaries=tuple(canaries),
            errors=errors,
            warnings=tuple(self.warnings),
        )

    def _check_mode(self) -> None:
        if self.mode is DeploymentMode.MODEL_MESH:
            raise InvalidSpec(
                "The deployment mode ModelMesh is not supported.",
                fix=f"Set the annotation {DEPLOYMENT_MODE} to Standard or Knative.",
                reason="ModelMeshNotSupported",
            )

    def _check_length(self, name: str) -> None:
        """A name that no label and no Service can hold is refused here, with what would do."""
        label = names.app_label(name) if self.mode is DeploymentMode.STANDARD else name
        over = len(label) - names.LONGEST_NAME
        if over > 0:
            raise InvalidSpec(
                f"The name `{name}` is too long: `{label}` has {len(label)} characters, at most"
                f" {names.LONGEST_NAME} are possible.",
                fix=f"Make the service's name {over} characters shorter.",
                reason="NameTooLong",
            )

    def _component(self, kind: ComponentKind, spec: Mapping[str, Any]) -> Component:
        if kind is ComponentKind.PREDICTOR:
            component = self._predictor(spec)
        else:
            component = self._beside_predictor(kind, spec)
        self._check_length(component.name)
        return component

    # -- predictors ------------------------------------------------------------------------

    def _predictor(
        self,
        spec: Mapping[str, Any],
        *,
        replicas: int | None = None,
        percent: int = 0,
    ) -> Component:
        model = spec.get("model")
        if model is None:
            return self._custom_predictor(spec, replicas, percent)
        selected = select(
            model,
            self.around.runtimes,
            self.around.cluster_runtimes,
            multi_node=spec.get("workerSpec") is not None,
        )
        if not selected.runtime["spec"].get("containers"):
            raise InvalidSpec(
                f"The runtime `{selected.name}` has no containers.",
                fix=f"Add the container `{SERVER_CONTAINER}` to the runtime `{selected.name}`.",
            )
        family = server_types.server_type(selected.runtime)
        storage = self._storage_of_model(spec, model)
        defaults = server_types.apply_defaults(
            copy.deepcopy(dict(model)),
            selected.protocol,
            family,
            self.name,
            has_storage=storage.present,
        )
        runtime_spec = selected.runtime["spec"]
        labels, annotations = self._metadata(
            ComponentKind.PREDICTOR, spec, runtime_spec, defaults.labels
        )
        seen = {
            **self.metadata,
            "labels": {**(self.metadata.get("labels") or {}), **defaults.labels},
        }
        assembled = pod.model_pod(spec, defaults.model, selected.runtime, seen, family)
        worker = self._multi_node(spec, selected, assembled)
        self._finish(assembled, ComponentKind.PREDICTOR, spec, annotations, storage, worker, family)
        return Component(
            kind=ComponentKind.PREDICTOR,
            name=component_name(self.name, ComponentKind.PREDICTOR, str(spec.get("name") or "")),
            variant=str(spec.get("name") or ""),
            spec=spec,
            labels=labels,
            annotations=annotations,
            pod=assembled,
            runtime=selected,
            protocol=defaults.protocol,
            worker=worker,
            replicas=replicas,
            percent=percent,
        )

    def _storage_of_model(
        self, spec: Mapping[str, Any], model: Mapping[str, Any]
    ) -> StorageRequest:
        return StorageRequest(
            uri=str(model.get("storageUri") or ""),
            storage=model.get("storage"),
            sources=tuple(read_sources(dict(spec))),
            container_name=str(spec.get("storageContainerName") or ""),
            confidential=model.get("confidential") or {},
        )

    def _multi_node(
        self, spec: Mapping[str, Any], selected: Selected, assembled: Tree
    ) -> Worker | None:
        if spec.get("workerSpec") is None:
            return None
        generation = int(self.metadata.get("generation") or 1)
        return multinode.make_worker(
            spec, selected.runtime, assembled, self.name, generation, self.config
        )

    def _custom_predictor(
        self, spec: Mapping[str, Any], replicas: int | None, percent: int
    ) -> Component:
        labels, annotations = self._metadata(ComponentKind.PREDICTOR, spec)
        assembled = pod.custom_pod(spec)
        storage = self._storage_of_containers(spec, assembled)
        self._finish(assembled, ComponentKind.PREDICTOR, spec, annotations, storage)
        variant = str(spec.get("name") or "")
        return Component(
            kind=ComponentKind.PREDICTOR,
            name=component_name(self.name, ComponentKind.PREDICTOR, variant),
            variant=variant,
            spec=spec,
            labels=labels,
            annotations=annotations,
            pod=assembled,
            protocol=get_env(assembled["containers"][0], "PROTOCOL") or "v1",
            replicas=replicas,
            percent=percent,
        )

    def _canaries(self, stable: Mapping[str, Any]) -> list[Component]:
        return [
            self._predictor(
                canary_spec(stable, entry["predictor"]),
                replicas=canary_replicas(stable, entry),
                percent=int(entry.get("trafficPercent") or 0),
            )
            for entry in self.isvc["spec"].get("canary") or ()
        ]

    # -- transformers and explainers ---------------------------------------------------------

    def _beside_predictor(self, kind: ComponentKind, spec: Mapping[str, Any]) -> Component:
        labels, annotations = self._metadata(kind, spec)
        art = spec.get("art")
        if kind is ComponentKind.EXPLAINER and art is not None:
            assembled = self._art_pod(spec, art)
        else:
            assembled = pod.custom_pod(spec)
        storage = self._storage_of_containers(spec, assembled)
        if art is not None:
            storage = StorageRequest(
                uri=str(art.get("storageUri") or ""),
                storage=art.get("storage"),
                sources=storage.sources,
            )
        else:
            self._add_arguments(kind, spec, assembled["containers"][0])
        self._finish(assembled, kind, spec, annotations, storage)
        return Component(
            kind=kind,
            name=component_name(self.name, kind),
            variant="",
            spec=spec,
            labels=labels,
            annotations=annotations,
            pod=assembled,
            protocol=get_env(assembled["containers"][0], "PROTOCOL") or "v1",
        )

    def _predictor_host(self) -> str:
        predictor = self.isvc["spec"]["predictor"]
        variant = str(predictor.get("name") or "")
        service = component_name(self.name, ComponentKind.PREDICTOR, variant)
        return f"{service}.{self.namespace}"

    def _add_arguments(self, kind: ComponentKind, spec: Mapping[str, Any], container: Tree) -> None:
        """Where the predictor is and what the model is called, unless the user said so."""
        wanted = {
            "--model_name": self.name,
            "--predictor_host": self._predictor_host(),
            "--http_port": str(pod.DEFAULT_PORT),
        }
        if spec.get("containerConcurrency"):
            wanted["--workers"] = str(spec["containerConcurrency"])
        args = list(container.get("args") or ())
        for flag, value in wanted.items():
            if not any(str(arg).startswith(flag) for arg in args):
                args += [flag, value]
        container["args"] = args

    def _art_pod(self, spec: Mapping[str, Any], art: Mapping[str, Any]) -> Tree:
        container = pod.container_fields(art)
        settings = self.config.explainers.art
        version = str(art.get("runtimeVersion") or settings.default_image_version)
        args = ["--model_name", self.name, "--http_port", str(pod.DEFAULT_PORT)]
        args += ["--predictor_host", self._predictor_host()]
        if spec.get("containerConcurrency"):
            args += ["--workers", str(spec["containerConcurrency"])]
        if art.get("storageUri"):
            args += ["--storage_uri", "/mnt/models"]
        args += ["--adversary_type", str(art.get("type") or "")]
        for key, value in sorted((art.get("config") or {}).items()):
            args += [f"--{key}", str(value)]
        container["args"] = [*args, *(container.get("args") or ())]
        container["name"] = SERVER_CONTAINER
        container.setdefault("image", f"{settings.image}:{version}")
        return {**pod.pod_fields(spec), "containers": [container]}

    # -- what all have in common -------------------------------------------------------------

    def _storage_of_containers(self, spec: Mapping[str, Any], assembled: Tree) -> StorageRequest:
        return StorageRequest(
            uri=get_env(assembled["containers"][0], "STORAGE_URI"),
            sources=tuple(read_sources(dict(spec))),
            container_name=str(spec.get("storageContainerName") or ""),
        )

    def _metadata(
        self,
        kind: ComponentKind,
        spec: Mapping[str, Any],
        runtime: Mapping[str, Any] | None = None,
        server_labels: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, str], dict[str, str]]:
        layer = runtime or {}
        own_labels = {**(self.metadata.get("labels") or {}), **(server_labels or {})}
        labels = component_labels(
            self.name, kind, [layer.get("labels"), own_labels, spec.get("labels")]
        )
        annotations = component_annotations(
            [
                layer.get("annotations"),
                self.metadata.get("annotations"),
                sidecar_annotations(kind, spec, self.config),
                spec.get("annotations"),
            ],
            self.config.inference_service.disallowed_annotations,
        )
        return labels, {**metric_annotations(annotations, self.config), **annotations}

    def _finish(
        self,
        assembled: Tree,
        kind: ComponentKind,
        spec: Mapping[str, Any],
        annotations: Mapping[str, str],
        storage: StorageRequest,
        worker: Worker | None = None,
        family: str = "",
    ) -> None:
        if kind is ComponentKind.PREDICTOR:
            pod.name_service(assembled["containers"], self.name)
        elif kind is ComponentKind.TRANSFORMER:
            pod.name_service(assembled["containers"][:1], self.name)
        request = StorageRequest(
            uri=storage.uri,
            storage=storage.storage,
            sources=storage.sources,
            container_name=storage.container_name,
            confidential=storage.confidential,
            annotations=annotations,
        )
        if request.present:
            add_storage(assembled, request, self.around, self.config)
            if worker is not None:
                add_storage(worker.pod, request, self.around, self.config)
        flags = ServingFlags(kind, spec, annotations, self.config)
        flags.add(assembled, self.name, self.namespace, family)
        self.warnings += flags.warnings
        period = _STANDARD_PERIOD if self.mode is DeploymentMode.STANDARD else _AGGRESSIVE_PERIOD
        for made in (assembled, *([worker.pod] if worker is not None else [])):
            pod.complete(made, annotations, probe_period=period)
            pod.linger(made, self.config.deploy.pre_stop_sleep_seconds, spec.get("timeout"))


def canary_spec(stable: Mapping[str, Any], canary: Mapping[str, Any]) -> dict[str, Any]:
    """A canary's predictor: the stable one with what the canary says over it."""
    base = {
        key: value
        for key, value in stable.items()
        if key not in _CLEARED_IN_CANARY and key not in _NOT_INHERITED
    }
    if canary.get("containers"):
        base.pop("model", None)
    elif canary.get("model"):
        base.pop("containers", None)
    canary_model = canary.get("model") or {}
    if canary_model.get("storageUri") or canary_model.get("storage"):
        base.pop("storageUris", None)
    merged = _overlay(base, canary)
    if canary.get("storageUris"):
        model = merged.get("model") or {}
        model.pop("storageUri", None)
        model.pop("storage", None)
    return merged


def _overlay(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Maps merged key by key, everything else replaced by what the overlay says."""
    joined = copy.deepcopy(dict(base))
    for key, value in overlay.items():
        if value is None or value == "" or value == []:
            continue
        old = joined.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        joined[key] = _overlay(old or {}, value) if both else copy.deepcopy(value)
    return joined


def canary_replicas(stable: Mapping[str, Any], entry: Mapping[str, Any]) -> int:
    """How many pods a canary gets: what it asks for, else its share of the stable ones."""
    own = entry["predictor"].get("minReplicas")
    if own is not None:
        return int(own)
    given = stable.get("minReplicas")
    fewest = 1 if given is None else int(given)
    return math.ceil(fewest * int(entry.get("trafficPercent") or 0) / 100)
