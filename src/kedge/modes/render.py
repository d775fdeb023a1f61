"""The objects that manifests become, offline: the controllers' own builders without a cluster.

What is shown is where a service comes to rest when all its pods are ready. Nothing is asked of any
API: a runtime, a secret or an account that is not among the manifests counts as absent, except
that what Kedge ships is always there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kedge.admission.review import AdmissionReview
from kedge.api import legacy
from kedge.api.inferenceservice.defaults import apply_defaults
from kedge.api.schema import check
from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CONFIG_MAP,
    INFERENCE_SERVICE,
    SECRET,
    SERVICE_ACCOUNT,
    SERVING_GROUP,
    SERVING_RUNTIME,
    Kind,
    kind_of,
)
from kedge.cluster.base import Object
from kedge.cluster.errors import Invalid
from kedge.controllers.inferenceservice.assembly import plan_service
from kedge.controllers.inferenceservice.components import ServicePlan
from kedge.controllers.inferenceservice.errors import BuildError
from kedge.controllers.inferenceservice.rest import objects_at_rest
from kedge.controllers.inferenceservice.surroundings import Surroundings
from kedge.install.manifests import shipped
from kedge.settings.serving import CONFIG_MAP_NAME, ServingConfig

_AROUND = (SERVING_RUNTIME, CLUSTER_SERVING_RUNTIME, CLUSTER_STORAGE_CONTAINER, SECRET,
           SERVICE_ACCOUNT)  # fmt: skip
Use = Literal["used", "refused", "warned"]


@dataclass(frozen=True)
class FieldUse:
    """What becomes of one field of a manifest.

    Attributes:
        path: `spec.predictor.model.storageUri`.
        use: whether it is used, refused, or has no (full) effect.
        note: why, where it is not simply used.
    """

    path: str
    use: Use
    note: str = ""


@dataclass
class Rendered:
    """The outcome for some manifests.

    Attributes:
        objects: the child objects, in the order in which they are applied.
        warnings: what the API and the service's status would warn of.
        errors: why a manifest is refused or a component cannot be built.
        fields: per InferenceService, as `namespace/name`, what becomes of each of its fields.
    """

    objects: list[Object] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    fields: dict[str, list[FieldUse]] = field(default_factory=dict)


def render(
    manifests: Iterable[Object],
    *,
    config: ServingConfig | None = None,
    runtimes: Sequence[Object] | None = None,
    namespace: str = "default",
) -> Rendered:
    """The child objects of every InferenceService among `manifests`.

    Args:
        manifests: also runtimes, ClusterStorageContainers, Secrets and ServiceAccounts, which are
            used; other kinds are left alone.
        config: settings; those of a ConfigMap `inferenceservice-config` among the manifests, else
            the shipped ones, when None.
        runtimes: ClusterServingRuntimes besides those in `manifests`; Kedge's own when None.
        namespace: of objects that name none.
    """
    placed = [_placed(legacy.convert(manifest), namespace) for manifest in manifests]
    settings = config or _configured(placed)
    others = list(shipped("runtimes")) if runtimes is None else list(runtimes)
    rendering = _Rendering(placed, [*others, *shipped("storagecontainers")], settings)
    # What services are built from comes first: a refused runtime serves nothing.
    for manifest in sorted(placed, key=lambda obj: kind_of(obj) == INFERENCE_SERVICE):
        rendering.take(manifest)
    return rendering.result


def _configured(manifests: Sequence[Object]) -> ServingConfig:
    """The settings of the ConfigMap among the manifests, if there is one."""
    for manifest in manifests:
        if kind_of(manifest) == CONFIG_MAP and manifest["metadata"]["name"] == CONFIG_MAP_NAME:
            return ServingConfig.from_config_map(manifest)
    return ServingConfig.default()


def _placed(manifest: Object, namespace: str) -> Object:
    """The manifest with a namespace, as the API would store it."""
    metadata = manifest.get("metadata")
    kind = kind_of(manifest)
    if not isinstance(metadata, dict) or (kind is not None and not kind.namespaced):
        return manifest
    return {**manifest, "metadata": {**metadata, "namespace": metadata.get("namespace")
                                     or namespace}}  # fmt: skip


class _Rendering:
    """Some manifests on their way to their objects."""

    def __init__(
        self, manifests: Sequence[Object], present: list[Object], config: ServingConfig
    ) -> None:
        self.config = config
        self.result = Rendered()
        self._by_kind: dict[Kind, list[Object]] = {}
        given = {_identity(obj) for obj in manifests}
        # An API has one object of a name: a manifest is instead of what is shipped.
        kept = [obj for obj in present if _identity(obj) not in given]
        for obj in (*kept, *manifests):
            kind = kind_of(obj)
            if kind in _AROUND:
                self._by_kind.setdefault(kind, []).append(obj)
        self._review = AdmissionReview(lambda: config, self._related)

    def take(self, manifest: Object) -> None:
        """Render one manifest if it is a service, and check it in any case."""
        kind = kind_of(manifest)
        if kind is None:
            if str(manifest.get("apiVersion", "")).partition("/")[0] == SERVING_GROUP:
                self.result.errors.append(_not_served(manifest))
            return
        try:
            review = self._review.admit(kind, "CREATE", manifest)
        except Invalid as error:
            self.result.errors.append(error.message)
            if kind in _AROUND:
                self._by_kind[kind].remove(manifest)
            elif kind == INFERENCE_SERVICE:
                causes = (error.details or {}).get("causes") or []
                self._report(manifest, causes, ())
            return
        self.result.warnings += review.warnings
        if kind == INFERENCE_SERVICE:
            self._render(manifest, review.warnings)

    def _related(self, kind: Kind, namespace: str | None) -> list[Object]:
        return [
            obj
            for obj in self._by_kind.get(kind, [])
            if namespace is None or obj["metadata"].get("namespace") == namespace
        ]

    def _render(self, isvc: Object, warnings: tuple[str, ...]) -> None:
        full = apply_defaults(isvc, self.config)
        plan = plan_service(full, self._surroundings(isvc), self.config)
        known = {text.partition(": ")[0] for text in warnings}
        told = [str(warning) for warning in plan.warnings if warning.path not in known]
        self.result.warnings += told
        errors = [*plan.errors.values()]
        try:
            objects = list(objects_at_rest(plan))
        except BuildError as error:
            objects = []
            errors.append(error)
        self.result.errors += [_of_service(plan, error) for error in errors]
        self.result.objects += objects
        self._report(isvc, (), (*warnings, *told))

    def _surroundings(self, isvc: Object) -> Surroundings:
        namespace = isvc["metadata"]["namespace"]

        def named(kind: Kind) -> dict[str, Object]:
            return {obj["metadata"]["name"]: obj for obj in self._related(kind, namespace)}

        return Surroundings(
            namespace=namespace,
            runtimes=self._related(SERVING_RUNTIME, namespace),
            cluster_runtimes=self._related(CLUSTER_SERVING_RUNTIME, None),
            storage_containers=self._related(CLUSTER_STORAGE_CONTAINER, None),
            service_accounts=named(SERVICE_ACCOUNT),
            secrets=named(SECRET),
        )

    def _report(
        self, isvc: Object, causes: Sequence[dict[str, Any]], warnings: Sequence[str]
    ) -> None:
        metadata = isvc.get("metadata") or {}
        key = f"{metadata.get('namespace')}/{metadata.get('name')}"
        self.result.fields[key] = list(field_uses(isvc, causes, warnings))


def _identity(obj: Object) -> tuple[Kind | None, Any, Any]:
    metadata = obj.get("metadata") or {}
    return kind_of(obj), metadata.get("namespace"), metadata.get("name")


def _not_served(manifest: Object) -> str:
    name, kind = (manifest.get("metadata") or {}).get("name"), manifest.get("kind")
    fix = "Take it out."
    if kind == INFERENCE_SERVICE.kind:
        fix = f"Write it in {INFERENCE_SERVICE.api_version}: other versions have another form."
    return (
        f"{kind} {name}: {manifest.get('apiVersion')} {kind} is not served by this release."
        f" Fix: {fix}"
    )


def _of_service(plan: ServicePlan, error: BuildError) -> str:
    component = f" {error.component}" if error.component else ""
    return f"InferenceService {plan.namespace}/{plan.name}{component}: {error}"


def field_uses(
    isvc: Object, causes: Sequence[dict[str, Any]], warnings: Sequence[str]
) -> Iterator[FieldUse]:
    """What becomes of each field that a manifest sets.

    Args:
        causes: why it is refused, as the API tells it.
        warnings: what it is warned of.
    """
    refused = {_plain(cause["field"]): str(cause["message"]) for cause in causes}
    warned = {_plain(text.partition(": ")[0]): text.partition(": ")[2] for text in warnings}
    unknown = {
        _plain(problem.path): problem.detail
        for problem in check(INFERENCE_SERVICE, isvc)
        if problem.kind == "unknown"
    }
    for path in _leaves(isvc, ""):
        for notes, use in ((refused, "refused"), (unknown, "warned"), (warned, "warned")):
            note = _note(notes, path)
            if note is not None:
                yield FieldUse(path, use, note)  # type: ignore[arg-type]  # one of the three
                break
        else:
            yield FieldUse(path, "used")


def _leaves(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            if path == "" and key in ("apiVersion", "kind", "status"):
                continue
            child = f"{path}[{key}]" if "/" in str(key) else f"{path}.{key}".lstrip(".")
            yield from _leaves(item, child)
    elif isinstance(value, list) and value:
        for place, item in enumerate(value):
            yield from _leaves(item, f"{path}[{place}]")
    else:
        yield path


def _plain(path: str) -> str:
    return path.strip().rstrip(".")


def _note(notes: dict[str, str], path: str) -> str | None:
    """The note on a field, or on something that it is part of."""
    for noted, text in notes.items():
        if path == noted or (path.startswith(noted) and path[len(noted)] in ".["):
            return text
    return None
