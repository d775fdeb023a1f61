"""What a migration will do, for the person who decides about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from kedge.cluster.base import Object
from kedge.install.migration.configuration import Carried
from kedge.install.migration.finding import Found, Served
from kedge.install.migration.kinds import INGRESS, VIRTUAL_SERVICE
from kedge.settings.serving import ServingConfig


@dataclass(frozen=True)
class Foresight:
    """What a service will be under Kedge.

    Attributes:
        url: its `status.url`.
        mode: its deployment mode.
        objects: kind and name of its children.
        images: of its servers.
        warnings: fields that do less than they seem to say.
        errors: why it is refused or cannot be built; such a service is not touched.
    """

    url: str = ""
    mode: str = ""
    objects: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


Foresee = Callable[[Object, ServingConfig, Found], Awaitable[Foresight]]
"""Given a service in today's form."""


@dataclass
class Plan:
    """Everything that will be done.

    Attributes:
        home: Kedge's namespace.
        carried: the configuration.
        services: those to take over, with what they will be.
        done: how many are Kedge's already.
        only: the services that were named; empty for all.
    """

    found: Found
    home: str
    carried: Carried
    services: list[tuple[Served, Foresight]] = field(default_factory=list)
    done: int = 0
    only: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.found.running or self.found.webhooks or self.services)

    def lines(self) -> Iterator[str]:
        """For people."""
        yield from self._cluster_lines()
        yield from self._config_lines()
        yield from self._other_lines()
        for served, foresight in self.services:
            yield ""
            yield from self._service_lines(served, foresight)
        yield ""
        blocked = sum(bool(foresight.errors) for _, foresight in self.services)
        yield (
            f"{len(self.services) - blocked} services will be taken over, {blocked} stay as they"
            f" are, {self.done} are Kedge's already."
        )

    def _cluster_lines(self) -> Iterator[str]:
        for kind, obj in self.found.controllers:
            metadata = obj["metadata"]
            count = obj["spec"].get("replicas", 1)
            what = f"{kind.kind} {metadata['namespace']}/{metadata['name']}"
            yield f"{what}: {f'scaled from {count} to 0' if count else 'is at 0 already'}"
        for kind, obj in self.found.webhooks:
            yield f"{kind.kind} {obj['metadata']['name']}: removed, it asks KServe's controller"
        for obj in self.found.conversions:
            yield (
                f"CustomResourceDefinition {obj['metadata']['name']}: its conversion by KServe's"
                " controller is switched off"
            )
        if not self.found.controllers:
            yield "KServe's controller: not found"

    def _config_lines(self) -> Iterator[str]:
        if self.found.config is None:
            yield "Configuration of KServe: not found; Kedge's defaults hold"
            return
        metadata = self.found.config["metadata"]
        kept = ", ".join(self.carried.kept) or "nothing"
        yield f"Configuration {metadata['namespace']}/{metadata['name']}: carried over: {kept}"
        for text in self.carried.left:
            yield f"  not carried over: {text}"
        config = ServingConfig.from_config_map({"data": self.carried.data})
        if config.outer_gateway:
            yield f"  Gateway {config.outer_gateway} stays in front, and leads to Kedge's"
        if config.outer_ingress_class:
            yield f"  Ingress objects of class {config.outer_ingress_class} lead to Kedge's gateway"

    def _other_lines(self) -> Iterator[str]:
        runtimes = [obj["metadata"]["name"] for obj in self.found.cluster_runtimes]
        if runtimes:
            yield f"ClusterServingRuntimes that stay: {', '.join(sorted(runtimes))}"
        for obj in self.found.storage:
            yield f"ClusterStorageContainer {obj['metadata']['name']}: becomes Kedge's"
        for kind, reason, names in self.found.unsupported:
            shown = ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")
            yield f"{kind.kind}, not Kedge's to serve: {shown}. {reason}"

    def _service_lines(self, served: Served, foresight: Foresight) -> Iterator[str]:
        legacy = ", of serving.kubeflow.org: made anew in serving.kserve.io" * served.is_legacy
        step = f", {served.adoption}" if served.adoption else ""
        yield f"{served.key} ({foresight.mode or served.mode}, Ready {served.ready}{step}{legacy})"
        if foresight.errors:
            yield "  stays as KServe left it, for Kedge cannot serve it:"
            for text in foresight.errors:
                yield f"    {text}"
            return
        if foresight.url and foresight.url != served.url:
            yield f"  URL: {served.url or 'none yet'} -> {foresight.url}"
        else:
            yield f"  URL: {foresight.url or 'none'}, as before"
        yield f"  makes or takes over: {', '.join(foresight.objects)}"
        if foresight.images:
            yield f"  served by: {', '.join(foresight.images)}"
        fronts = [str(c) for c in served.children if c.kind in (VIRTUAL_SERVICE, INGRESS)]
        if fronts:
            yield f"  led to Kedge's gateway, and kept: {', '.join(fronts)}"
        made = set(foresight.objects)
        gone = [str(c) for c in served.children if str(c) not in made and str(c) not in fronts]
        if gone:
            yield f"  removed once it is Ready: {', '.join(gone)}"
        for text in foresight.warnings:
            yield f"  warning: {text}"
