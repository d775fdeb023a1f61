"""One object in, refusal or warnings out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from kedge.api.clusterstoragecontainer import validation as storage_container_rules
from kedge.api.findings import Cause, Findings, nearest
from kedge.api.inferenceservice.defaults import apply_defaults
from kedge.api.inferenceservice.validation import validate as validate_service
from kedge.api.schema import FieldProblem, check
from kedge.api.scheme import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CONFIG_MAP,
    INFERENCE_SERVICE,
    SERVING_GROUP,
    SERVING_RUNTIME,
    Kind,
)
from kedge.api.servingruntime import validation as runtime_rules
from kedge.cluster.errors import Invalid
from kedge.settings.serving import CONFIG_MAP_NAME, ConfigError, ServingConfig

Object = dict[str, Any]
Operation = Literal["CREATE", "UPDATE"]


@dataclass(frozen=True)
class Review:
    """What an accepted object gets: warnings for the API's `Warning` header."""

    warnings: tuple[str, ...] = ()


class AdmissionReview:
    """Reviews objects of any kind; kinds without rules are accepted as they are.

    Args:
        config: the settings now in force.
        related: the stored objects of a kind, in one namespace or, for None, all of them.
    """

    def __init__(
        self,
        config: Callable[[], ServingConfig],
        related: Callable[[Kind, str | None], list[Object]],
    ) -> None:
        self._config = config
        self._related = related

    def admit(
        self, kind: Kind, operation: Operation, obj: Object, old: Object | None = None
    ) -> Review:
        """Accept with warnings, or raise `Invalid` with every cause."""
        if kind == CONFIG_MAP:
            return self._admit_config(obj)
        if kind.group != SERVING_GROUP or _stays_as_it_is(operation, obj, old):
            return Review()
        problems = check(kind, obj)
        unknown = [problem for problem in problems if problem.kind == "unknown"]
        findings = Findings([_cause(problem) for problem in problems if problem.kind != "unknown"])
        if not findings.causes:
            findings = self._validate(kind, obj, old if operation == "UPDATE" else None)
        if findings.causes:
            # A misspelt field is often why something else is missing: say so in the same answer.
            raise refusal(kind, obj, [*map(_cause, unknown), *findings.causes])
        warnings = (*(problem.message for problem in unknown), *findings.warnings)
        return Review(tuple(dict.fromkeys(warnings)))

    def _validate(self, kind: Kind, obj: Object, old: Object | None) -> Findings:
        broken = ""
        try:
            config = self._config()
        except ConfigError as error:
            config, broken = ServingConfig.default(), str(error)
        if kind == INFERENCE_SERVICE:
            findings = validate_service(obj, old, config)
            if not findings.causes:
                self._warn_of_runtime(obj, config, findings)
        elif kind in (SERVING_RUNTIME, CLUSTER_SERVING_RUNTIME):
            namespace = (obj.get("metadata") or {}).get("namespace")
            others = self._related(kind, namespace if kind.namespaced else None)
            findings = runtime_rules.validate(obj, old, others, config)
        elif kind == CLUSTER_STORAGE_CONTAINER:
            findings = storage_container_rules.validate(obj)
        else:
            findings = Findings()
        if broken:
            findings.warnings.append(broken)
        return findings

    def _warn_of_runtime(self, obj: Object, config: ServingConfig, findings: Findings) -> None:
        namespace = (obj.get("metadata") or {}).get("namespace")
        runtimes = self._related(SERVING_RUNTIME, namespace)
        runtimes = [*runtimes, *self._related(CLUSTER_SERVING_RUNTIME, None)]
        model = (apply_defaults(obj, config)["spec"]["predictor"]).get("model")
        if model is not None:
            _warn_of_runtime(model, runtimes, findings)

    def _admit_config(self, obj: Object) -> Review:
        if (obj.get("metadata") or {}).get("name") != CONFIG_MAP_NAME:
            return Review()
        try:
            ServingConfig.from_config_map(obj)
        except ConfigError as error:
            key = error.message.partition("`")[2].partition("`")[0]
            raise refusal(
                CONFIG_MAP, obj, [Cause(f"data[{key}]", str(error), "FieldValueInvalid")]
            ) from error
        return Review()


_REASONS = {
    "type": "FieldValueTypeInvalid",
    "required": "FieldValueRequired",
    "unknown": "FieldValueNotSupported",
}


def _stays_as_it_is(operation: Operation, obj: Object, old: Object | None) -> bool:
    """An update that changes nothing a rule is about, or whose object is being deleted.

    A finalizer must come off an object that an older Kedge accepted and this one would not.
    """
    if operation != "UPDATE" or old is None:
        return False
    before, after = old.get("metadata") or {}, obj.get("metadata") or {}
    if before.get("deletionTimestamp"):
        return True
    said = [{k: v for k, v in o.items() if k not in ("metadata", "status")} for o in (old, obj)]
    names = ("annotations", "labels")
    return said[0] == said[1] and all((before.get(n) or {}) == (after.get(n) or {}) for n in names)


def _cause(problem: FieldProblem) -> Cause:
    return Cause(problem.path, problem.detail, _REASONS[problem.kind])


def _warn_of_runtime(model: Object, runtimes: list[Object], findings: Findings) -> None:
    """Warn of a runtime or format that nothing here has a name for."""
    path = "spec.predictor.model"
    names = [str(runtime["metadata"]["name"]) for runtime in runtimes]
    wanted = model.get("runtime")
    if wanted and wanted not in names:
        meant = nearest(wanted, names)
        findings.warn(
            f"{path}.runtime",
            f"no ServingRuntime or ClusterServingRuntime is named {wanted}",
            f"Write {meant}, or add the runtime." if meant else _choose(names),
        )
    if wanted or not (model.get("modelFormat") or {}).get("name"):
        return
    formats = sorted(
        {
            str(entry["name"])
            for runtime in runtimes
            for entry in (runtime.get("spec") or {}).get("supportedModelFormats") or []
        }
    )
    name = str(model["modelFormat"]["name"])
    if name not in formats:
        meant = nearest(name, formats)
        findings.warn(
            f"{path}.modelFormat.name",
            f"no runtime here reads {name}",
            f"Write {meant}, or add a runtime for it." if meant else _choose_format(formats),
        )


def _choose(names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names))
    return f"Add it, or use one of {listed}." if listed else "Add it."


def _choose_format(formats: Iterable[str]) -> str:
    listed = ", ".join(formats)
    return f"Add a runtime for it; those here read {listed}." if listed else "Add a runtime for it."


def refusal(kind: Kind, obj: Object, causes: list[Cause]) -> Invalid:
    """The API's answer to an object that is refused for these causes."""
    name = str((obj.get("metadata") or {}).get("name") or "")
    said = [str(cause) for cause in causes]
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return Invalid(
        f'{qualified} "{name}" is invalid: {text}',
        details={
            "name": name,
            "group": kind.group,
            "kind": kind.kind,
            "causes": [
                {"reason": cause.reason, "message": cause.message, "field": cause.field}
                for cause in causes
            ],
        },
    )
