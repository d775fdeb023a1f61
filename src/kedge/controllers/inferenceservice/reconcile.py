"""One InferenceService brought about: a list of phases, each safe to repeat.

What is to be there is computed from the resource and its surroundings, applied, looked at, and told
in the status, which is written once at the end if it changed. Nothing is remembered between two
reconciles but what is in the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kedge.api.inferenceservice import status as api
from kedge.api.inferenceservice.defaults import deployment_mode
from kedge.api.inferenceservice.status import Status
from kedge.api.scheme import (
    CONFIG_MAP,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    HTTP_ROUTE,
    INFERENCE_SERVICE,
    SERVICE,
)
from kedge.cluster.base import Cluster, Object
from kedge.cluster.errors import ApiError, BadRequest, Forbidden, Invalid, NotFound
from kedge.controllers.inferenceservice import names
from kedge.controllers.inferenceservice.applier import Applier, applied_hash
from kedge.controllers.inferenceservice.ca_bundle import copy_ca_bundle
from kedge.controllers.inferenceservice.cache import Cache
from kedge.controllers.inferenceservice.causes import NOT_READY, UNSCHEDULABLE
from kedge.controllers.inferenceservice.checking import Rejected, review
from kedge.controllers.inferenceservice.children.autoscaler import OTEL_COLLECTOR, SCALED_OBJECT
from kedge.controllers.inferenceservice.children.httproute import add_shadows, make_routes
from kedge.controllers.inferenceservice.children.service import make_gateway_service
from kedge.controllers.inferenceservice.components import ServicePlan, Warned
from kedge.controllers.inferenceservice.diagnosis import Diagnosis
from kedge.controllers.inferenceservice.errors import BuildError, Refused
from kedge.controllers.inferenceservice.knative import KnativeMode
from kedge.controllers.inferenceservice.names import ComponentKind
from kedge.controllers.inferenceservice.observe import route_verdict
from kedge.controllers.inferenceservice.pins import ModelPins, NothingPinned
from kedge.controllers.inferenceservice.planning import Planner
from kedge.controllers.inferenceservice.rollout import Outcome, Scope
from kedge.controllers.inferenceservice.standard import StandardMode
from kedge.controllers.inferenceservice.status import report
from kedge.controllers.inferenceservice.surroundings import DEFAULT_CLUSTER_DOMAIN
from kedge.lib.clock import SYSTEM_CLOCK, Clock
from kedge.lib.errors import KedgeError
from kedge.reconcile.controller import Key, Result
from kedge.reconcile.events import EventRecorder
from kedge.settings.revisions import GC_CONFIG_MAP, NETWORK_CONFIG_MAP, RevisionConfig
from kedge.settings.serving import (
    DEFAULT_NAMESPACE,
    ConfigError,
    DeploymentMode,
    ServingConfig,
)

COMPONENT = "v1beta1Controllers"
"""The source of events, as KServe names it."""
_REFUSALS = (Invalid, Forbidden, BadRequest)
_NOT_TAKEN_OVER = (
    "Another controller made what serves this, and Kedge changes nothing of it."
    " Fix: kedge migrate --service NAMESPACE/NAME --apply takes it over."
)
CHILDREN = (HTTP_ROUTE, HORIZONTAL_POD_AUTOSCALER, SERVICE, DEPLOYMENT)
"""Kinds of children, in the order in which they go: first the way in, last the pods."""


class Reconciler:
    """Reconciles InferenceServices.

    Args:
        cluster: where children are written.
        cache: what is read.
        config: the settings of this moment; may raise `ConfigError`.
        cluster_domain: the domain of in-cluster names.
        namespace: where the configuration is.
        keeper: keeps the model files that revisions are made of.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        config: Callable[[], ServingConfig],
        *,
        clock: Clock = SYSTEM_CLOCK,
        cluster_domain: str = DEFAULT_CLUSTER_DOMAIN,
        namespace: str = DEFAULT_NAMESPACE,
        keeper: ModelPins | None = None,
    ) -> None:
        self.keeper = keeper or NothingPinned()
        self.cluster = cluster
        self.cache = cache
        self.config = config
        self.clock = clock
        self.namespace = namespace
        self.planner = Planner(cluster, cache, cluster_domain=cluster_domain, namespace=namespace)
        self.events = EventRecorder(cluster, COMPONENT, clock)
        self._reviewed: dict[Key, tuple[object, ServingConfig, list[Warned]]] = {}

    async def reconcile(self, key: Key) -> Result | None:
        """Bring the service of that name about, as far as it can be now."""
        isvc = self.cache.get(INFERENCE_SERVICE, key.namespace, key.name)
        if isvc is None:
            self._reviewed.pop(key, None)
            self.planner.forget(key)
            return None
        if isvc["metadata"].get("deletionTimestamp"):
            await self._release(isvc)
            return None
        if _is_anothers(isvc):
            await self.events.record(isvc, "Normal", "NotTakenOver", _NOT_TAKEN_OVER)
            return None
        isvc = await self._hold(isvc)
        if _is_frozen(isvc, self.cache):
            return None
        return await _Pass(self, isvc).run()

    def review(self, key: Key, isvc: Object, config: ServingConfig) -> list[Warned]:
        """What admission would warn of; asked again only when the service or the settings changed.

        Raises:
            Rejected: admission refuses it.
        """
        metadata = isvc["metadata"]
        asked = (isvc.get("spec"), metadata.get("annotations"), metadata.get("labels"))
        known = self._reviewed.get(key)
        if known is None or known[1] is not config or known[0] != asked:
            known = self._reviewed[key] = (asked, config, review(isvc, config))
        return known[2]

    async def _hold(self, isvc: Object) -> Object:
        """Put our finalizer on the service: we say when it may go."""
        finalizers = list(isvc["metadata"].get("finalizers") or ())
        if names.FINALIZER in finalizers:
            return isvc
        return await self._set_finalizers(isvc, [*finalizers, names.FINALIZER])

    async def _release(self, isvc: Object) -> None:
        """Let a deleted service go; its children go with it, by their owner reference."""
        finalizers = list(isvc["metadata"].get("finalizers") or ())
        if names.FINALIZER not in finalizers:
            return
        try:
            await self._set_finalizers(isvc, [f for f in finalizers if f != names.FINALIZER])
        except NotFound:
            return

    async def _set_finalizers(self, isvc: Object, finalizers: list[str]) -> Object:
        metadata = isvc["metadata"]
        patch = {
            "metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}
        }
        return await self.cluster.patch(
            INFERENCE_SERVICE, metadata["name"], patch, namespace=metadata["namespace"]
        )


def _is_frozen(isvc: Object, cache: Cache) -> bool:
    """Whether the service shall stay as it is: it asks for that, and all is well."""
    annotations = isvc["metadata"].get("annotations") or {}
    if annotations.get(names.DISABLE_AUTO_UPDATE) != "true" or _is_stopped(isvc):
        return False
    conditions = {c["type"]: c for c in (isvc.get("status") or {}).get("conditions") or ()}
    if conditions.get(api.READY, {}).get("status") != "True":
        return False
    key = Key(isvc["metadata"]["namespace"], isvc["metadata"]["name"])
    return all(route_verdict(route).ok for route in cache.of_service(HTTP_ROUTE, key))


def _is_anothers(isvc: Object) -> bool:
    """Whether another controller made what serves it, and it is not its turn to be taken over."""
    annotations = isvc["metadata"].get("annotations") or {}
    return bool(annotations.get(names.ADOPTION) == names.WAITING)


def _is_stopped(isvc: Object) -> bool:
    annotations = isvc["metadata"].get("annotations") or {}
    return str(annotations.get(names.STOP, "")).lower() == "true"


def _shadow_percent(plan: ServicePlan) -> int:
    given = plan.annotations.get(names.SHADOW_PERCENT, "")
    return min(int(given), 100) if given.isdecimal() else 0


def _refused(kind: ComponentKind, error: ApiError) -> Refused:
    refused = Refused(
        f"The API refused an object of the {kind}: {error.message}",
        fix=error.fix or f"Correct `spec.{kind}` by what the message says.",
        reason=error.reason,
    )
    refused.component = kind.value
    return refused


class _Pass:
    """One reconcile of one service."""

    def __init__(self, reconciler: Reconciler, isvc: Object) -> None:
        self.reconciler = reconciler
        self.cluster = reconciler.cluster
        self.cache = reconciler.cache
        self.events = reconciler.events
        self.isvc = isvc
        self.namespace = str(isvc["metadata"]["namespace"])
        self.name = str(isvc["metadata"]["name"])
        self.key = Key(self.namespace, self.name)
        self.applier = Applier(self.cluster, self.cache, isvc)
        self.status = Status(
            isvc.get("status"), int(isvc["metadata"].get("generation") or 1), reconciler.clock
        )
        self.outcomes: dict[ComponentKind, Outcome] = {}
        self.errors: dict[ComponentKind, BuildError] = {}
        self.routes: list[Object] = []
        self.warnings: list[Warned] = []

    async def run(self) -> Result | None:
        try:
            return await self._run()
        except (KedgeError, asyncio.CancelledError):
            raise
        except Exception as error:
            # A mistake of ours must not look like a service that is still starting.
            self.status.mark_predictor_not_ready(
                "InternalError", f"Kedge failed: {type(error).__name__}: {error}"
            )
            raise
        finally:
            await self._write_status()

    async def _run(self) -> Result | None:
        try:
            config = self.reconciler.config()
        except ConfigError as error:
            self.status.mark_predictor_not_ready(error.reason, str(error))
            raise
        self.status.initialise()
        self.status.set_deployment_mode(deployment_mode(self.isvc, config).value)
        if _is_stopped(self.isvc):
            await self._stop()
            return None
        self.status.mark_running()
        try:
            self.warnings += self.reconciler.review(self.key, self.isvc, config)
        except Rejected as error:
            await self._reject(error)
            return None
        plan = await self._plan(config)
        now = self.reconciler.clock.now()
        scope = Scope(
            plan, self.cache, self.applier, now, self._revision_config(), self.reconciler.keeper
        )
        mode = await self._bring_about(plan, scope)
        await self._route(plan, scope)
        diagnosis = Diagnosis(self.cluster, self.reconciler.clock, self.key)
        for outcome in self.outcomes.values():
            await diagnosis.look_at(outcome)
        await self._tell_gateway(scope)
        report(self.status, plan, self.outcomes, self.errors, self.routes, self.warnings)
        await self._clear_up(scope, mode)
        await self._tell()
        self._raise_errors()
        pauses = [diagnosis.look_again, *(o.look_again for o in self.outcomes.values())]
        due = [pause for pause in pauses if pause is not None]
        return Result(requeue_after=min(due)) if due else None

    def _revision_config(self) -> RevisionConfig:
        """How revisions follow each other; the defaults where it cannot be understood."""

        def data(name: str) -> dict[str, str]:
            found = self.cache.get(CONFIG_MAP, self.reconciler.namespace, name)
            return (found or {}).get("data") or {}

        try:
            return RevisionConfig.parse(data(GC_CONFIG_MAP), data(NETWORK_CONFIG_MAP))
        except ConfigError as error:
            self.warnings.append(Warned("configuration", str(error)))
            return RevisionConfig()

    # -- phases ----------------------------------------------------------------------------

    async def _plan(self, config: ServingConfig) -> ServicePlan:
        plan, self.applier.known = await self.reconciler.planner.plan(self.isvc, config)
        self.errors.update(plan.errors)
        try:
            await copy_ca_bundle(self.cluster, config, self.reconciler.namespace, self.namespace)
        except BuildError as error:
            self.errors.setdefault(ComponentKind.PREDICTOR, error)
        return plan

    async def _bring_about(self, plan: ServicePlan, scope: Scope) -> StandardMode | KnativeMode:
        """Make every component's workloads; one that fails does not keep the others."""
        mode = StandardMode(scope) if plan.mode is DeploymentMode.STANDARD else KnativeMode(scope)
        for kind in plan.components:
            try:
                self.outcomes[kind] = await mode.reconcile(kind)
            except BuildError as error:
                error.component = kind.value
                self.errors[kind] = error
            except _REFUSALS as error:
                self.errors[kind] = _refused(kind, error)
        return mode

    async def _route(self, plan: ServicePlan, scope: Scope) -> None:
        """Write the routes of what was brought about; of the rest they stay as they are."""
        try:
            await self._write_routes(plan, scope)
        except BuildError as error:
            error.component = plan.entry.value
            self.errors[plan.entry] = error
            self.routes = scope.routes
        except _REFUSALS as error:
            self.errors[plan.entry] = _refused(plan.entry, error)
            self.routes = scope.routes

    async def _write_routes(self, plan: ServicePlan, scope: Scope) -> None:
        backends = {kind: outcome.decision.backends for kind, outcome in self.outcomes.items()}
        notes = {kind: outcome.gradual for kind, outcome in self.outcomes.items()}
        routes = make_routes(plan, backends, notes)
        shadows = [
            shadow
            for outcome in self.outcomes.values()
            for shadow in outcome.shadows(_shadow_percent(plan))
        ]
        for route in routes:
            add_shadows(route, shadows)
        if plan.mode is DeploymentMode.KNATIVE and plan.entry in self.outcomes:
            labels = {names.ISVC_LABEL: self.name}
            await self.applier.apply_front(make_gateway_service(plan, self.name, labels))
        for outcome in self.outcomes.values():
            routes += outcome.routes
        kept = self._kept_routes(scope, {r["metadata"]["name"]: r for r in routes})
        for route in routes:
            if route["metadata"]["name"] not in kept:
                self.routes.append(await self.applier.apply(HTTP_ROUTE, route))
        self.routes += kept.values()

    def _kept_routes(self, scope: Scope, new: dict[str, Object]) -> dict[str, Object]:
        """Routes to leave as they are: those that a component which cannot be built is part of."""
        if not self.errors:
            return {}
        own = {outcome.component.name for outcome in self.outcomes.values()}
        return {
            name: route
            for route in scope.routes
            if (name := str(route["metadata"]["name"])) not in new or name not in own
        }

    async def _tell_gateway(self, scope: Scope) -> None:
        """Where requests are held for pods that cannot start, have them answered so.

        What no node takes is only told: a node may be on its way, or another pod going.
        """
        causes = {
            workload.name: cause
            for outcome in self.outcomes.values()
            for workload in outcome.all_workloads
            if (cause := outcome.causes.get(workload.name)) is not None
            and cause.reason != NOT_READY
            and not workload.ready_pods
        }
        for outcome in self.outcomes.values():
            for workload in outcome.all_workloads:
                cause = causes.get(workload.name)
                service = scope.activatable_service(workload.name)
                if service is not None:
                    told: dict[str, str | None] = {names.CANNOT_START: None, names.NO_ROOM: None}
                    if cause is not None:
                        waits = cause.reason == UNSCHEDULABLE
                        told[names.NO_ROOM if waits else names.CANNOT_START] = cause.message
                    await self.applier.annotate(SERVICE, service, told)
                if workload.autoscaled and (cause is not None or workload.ready_pods):
                    note = {names.LAST_FAILURE: None if cause is None else cause.message}
                    await self.applier.annotate(DEPLOYMENT, workload.deployment, note)

    async def _clear_up(self, scope: Scope, mode: StandardMode | KnativeMode) -> None:
        """Delete what is not wanted any more, once nothing depends on it."""
        settled = not self.errors and self._is_settled(scope)
        if isinstance(mode, KnativeMode):
            for outcome in self.outcomes.values():
                await mode.collect(outcome, settled=settled)
        if not settled:
            return
        for kind in CHILDREN:
            for child in self.cache.of_service(kind, self.key):
                if (kind.kind, child["metadata"]["name"]) not in self.applier.written:
                    await self.applier.delete(kind, child)

    def _is_settled(self, scope: Scope) -> bool:
        """Whether the gateway answers by the routes as they are now, and all shares are right."""
        cached = {route["metadata"]["name"]: applied_hash(route) for route in scope.routes}
        return all(
            outcome.settled and outcome.verdict.ok for outcome in self.outcomes.values()
        ) and all(
            route_verdict(route).ok and cached.get(route["metadata"]["name"]) == applied_hash(route)
            for route in self.routes
        )

    async def _stop(self) -> None:
        """Take everything down, the way in first; only the service itself stays."""
        children = [
            (kind, child) for kind in CHILDREN for child in self.cache.of_service(kind, self.key)
        ]
        for kind, child in children:
            await self.applier.delete(kind, child)
            if kind == DEPLOYMENT:
                # Nobody watches these kinds: they may be there wherever a Deployment is.
                for addon in (SCALED_OBJECT, OTEL_COLLECTOR):
                    await self.applier.delete_named(addon, child["metadata"]["name"])
        spec = self.isvc.get("spec") or {}
        parts = tuple(
            api.Component(kind.value) for kind in ComponentKind if spec.get(kind.value) is not None
        )
        self.status.mark_stopped(parts, has_canary=bool(spec.get("canary")))

    def _raise_errors(self) -> None:
        """What the status tells is retried by the queue too, in case its reason goes away."""
        for error in self.errors.values():
            raise error

    async def _reject(self, error: Rejected) -> None:
        """Change nothing until the service is corrected, and say why."""
        before = {c["type"]: c for c in (self.isvc.get("status") or {}).get("conditions") or ()}
        self.status.mark_predictor_not_ready(error.reason, str(error))
        if not self._was_told(before, ComponentKind.PREDICTOR, str(error)):
            await self.events.record(self.isvc, "Warning", error.reason, str(error))

    # -- telling ---------------------------------------------------------------------------

    async def _tell(self) -> None:
        """Events for what is new since the status was written last."""
        before = {c["type"]: c for c in (self.isvc.get("status") or {}).get("conditions") or ()}
        for kind, error in self.errors.items():
            if not self._was_told(before, kind, str(error)):
                await self.events.record(self.isvc, "Warning", "InternalError", str(error))
        for kind, outcome in self.outcomes.items():
            if outcome.started:
                await self.events.record(
                    self.isvc, "Normal", "RevisionCreated", f"Created revision {outcome.started}."
                )
            for cause in (outcome.cause, *(canary.cause for canary in outcome.canaries)):
                if cause is not None and not self._was_told(before, kind, cause.message):
                    await self.events.record(self.isvc, "Warning", cause.reason, cause.message)
        was = before.get(api.READY, {}).get("status")
        if self.status.is_ready and was != "True":
            await self.events.record(
                self.isvc, "Normal", "InferenceServiceReady",
                f"InferenceService [{self.name}] is Ready",
            )  # fmt: skip
        elif was == "True" and not self.status.is_ready:
            conditions = self.status.to_dict().get("conditions") or ()
            wrong = [
                c["type"] for c in conditions if c["status"] == "False" and c["type"] != api.STOPPED
            ]
            await self.events.record(
                self.isvc, "Warning", "InferenceServiceNotReady",
                f"InferenceService [{self.name}] is no longer Ready because of:"
                f" {', '.join(wrong) or 'a component that is being replaced'}",
            )  # fmt: skip

    def _was_told(
        self, before: dict[str, dict[str, object]], kind: ComponentKind, message: str
    ) -> bool:
        part = api.Component(kind.value)
        types = (part.ready_condition, part.configuration_condition, api.CANARY_PREDICTOR_READY)
        return any(before.get(type_, {}).get("message") == message for type_ in types)

    async def _write_status(self) -> None:
        status = self.status.to_dict()
        if status == (self.isvc.get("status") or {}):
            return
        await self.cluster.replace_status(
            INFERENCE_SERVICE,
            {
                "apiVersion": self.isvc["apiVersion"],
                "kind": self.isvc["kind"],
                "metadata": self.isvc["metadata"],
                "status": status,
            },
        )
