"""How one Deployment scales: its annotations, over `config-autoscaler`.

The annotations and their limits are Knative's, camelCase aliases included. A value that cannot be
used counts as not given; the problem is kept, to be shown where people look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kedge.cluster.base import Object
from kedge.settings.autoscaler import (
    ANNOTATIONS,
    HPA,
    AutoscalerConfig,
    duration,
    find_annotation,
    whole,
)

OWN_PREFIX = "serving.kedge.dev/"
AUTOSCALED_LABEL = f"{OWN_PREFIX}autoscaled"
SERVICE = f"{OWN_PREFIX}service"
CONTAINER_CONCURRENCY = f"{OWN_PREFIX}container-concurrency"
REACHABILITY = f"{OWN_PREFIX}reachability"
PROVEN = f"{OWN_PREFIX}proven"
SCALE_RANGE = f"{OWN_PREFIX}scale-range"
FLOOR = f"{OWN_PREFIX}floor"
PROGRESS_DEADLINE = "serving.knative.dev/progress-deadline"

_RPS_UTILIZATION = 0.7
_LEAST_TARGET = 0.01
_PROGRESS_DEADLINE = 600.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the algorithm needs to know of one Deployment.

    Attributes:
        metric: `concurrency` or `rps`.
        total: what a pod bears.
        utilization: the share of it that is aimed at.
        target: what a pod is given: both multiplied.
        stable_window: seconds; panic_window: likewise, for the short one.
        panic_threshold: load over what the ready pods bear from which on the short window decides.
        min_scale: the fewest pods; max_scale: the most, 0 for no limit.
        floor: the fewest pods for now, because it takes over requests that it has not seen yet.
        initial_scale: pods with which it proves itself.
        activation_scale: the fewest pods while there is any load.
        weighted: newer seconds weigh more.
        scale_to_zero: whether the last pod may go.
        grace: seconds for which the gateway must have been in the way before it goes.
        retention: seconds for which it stays with nothing to do.
        scale_down_delay: seconds for which less must have been wanted.
        progress_deadline: seconds that pods may take to get ready.
        reachable: whether any route leads here.
        proven: whether it has ever been ready.
        activation_only: another autoscaler decides above one pod.
        problems: annotations that cannot be used, in words.
    """

    metric: str = "concurrency"
    total: float = 100.0
    utilization: float = 0.7
    stable_window: int = 60
    panic_window: int = 6
    panic_threshold: float = 2.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    min_scale: int = 0
    max_scale: int = 0
    floor: int = 0
    initial_scale: int = 1
    activation_scale: int = 0
    weighted: bool = False
    scale_to_zero: bool = True
    grace: float = 30.0
    retention: float = 0.0
    scale_down_delay: float = 0.0
    progress_deadline: float = _PROGRESS_DEADLINE
    reachable: bool = True
    proven: bool = True
    activation_only: bool = False
    container_concurrency: int = 0
    problems: tuple[str, ...] = ()

    @property
    def target(self) -> float:
        return max(_LEAST_TARGET, self.total * self.utilization)

    @property
    def fewest(self) -> int:
        """The fewest pods now, proof aside."""
        return max(self.min_scale, self.floor) if self.reachable else 0


def parse_parameters(deployment: Object, config: AutoscalerConfig) -> Parameters:
    """What a Deployment's metadata asks for."""
    given = _Annotations(deployment["metadata"].get("annotations") or {})
    limit = given.plain(CONTAINER_CONCURRENCY, whole(0)) or 0
    metric = given.read("metric") or "concurrency"
    stable = given.read("window") or config.stable_window
    percentage = given.read("panic-window-percentage") or config.panic_window_percentage
    threshold = given.read("panic-threshold-percentage")
    most = _max_scale(given, config)
    least = given.read("min-scale")
    least = config.min_scale if least is None else least
    given.read("target-burst-capacity")
    algorithm = given.read("metric-aggregation-algorithm")
    values: dict[str, Any] = {
        "metric": "rps" if metric == "rps" else "concurrency",
        "total": _total(given, config, metric, limit),
        "utilization": _utilization(given, config, metric),
        "stable_window": int(stable),
        "panic_window": max(1, round(stable * percentage / 100)),
        "panic_threshold": (threshold or config.panic_threshold_percentage) / 100,
        "max_scale_up_rate": config.max_scale_up_rate,
        "max_scale_down_rate": config.max_scale_down_rate,
        "min_scale": least,
        "max_scale": most,
        "floor": given.plain(FLOOR, whole(0)) or 0,
        "initial_scale": _initial_scale(given, config),
        "activation_scale": _activation_scale(given, least, most),
        "weighted": algorithm not in (None, "linear"),
        "scale_to_zero": config.enable_scale_to_zero,
        "grace": config.scale_to_zero_grace_period,
        "retention": _or(given.read("scale-to-zero-pod-retention-period"), config.retention),
        "scale_down_delay": _or(given.read("scale-down-delay"), config.scale_down_delay),
        "progress_deadline": given.plain(PROGRESS_DEADLINE, duration(0, 86400, above=True))
        or _PROGRESS_DEADLINE,
        "reachable": given.text(REACHABILITY) != "unreachable",
        "proven": given.text(PROVEN) == "true",
        "activation_only": given.text(SCALE_RANGE) == "activation" or given.read("class") == HPA,
        "container_concurrency": limit,
    }
    if 0 < most < least:
        given.problems.append(f"max-scale {most} is less than min-scale {least}; {least} counts")
        values["max_scale"] = least
    return Parameters(**values, problems=tuple(given.problems))


class _Annotations:
    """Typed reading of annotations; what cannot be read is noted and counts as absent."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self._annotations = annotations
        self.problems: list[str] = []

    def text(self, key: str) -> str | None:
        return self._annotations.get(key)

    def read(self, name: str) -> Any:
        """The value of one of Knative's annotations, by either of its names."""
        key = find_annotation(self._annotations, name)
        return None if key is None else self.plain(key, ANNOTATIONS[name])

    def plain(self, key: str, parse: Callable[[str], Any]) -> Any:
        if key not in self._annotations:
            return None
        try:
            return parse(self._annotations[key])
        except ValueError as error:
            self.problems.append(f"{key} is {self._annotations[key]!r} and should be {error}")
            return None


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _total(given: _Annotations, config: AutoscalerConfig, metric: str, limit: int) -> float:
    target = given.read("target")
    if metric == "rps":
        return float(target or config.rps_target)
    if target is None:
        return float(limit or config.concurrency_target)
    return float(min(target, limit) if limit else target)


def _utilization(given: _Annotations, config: AutoscalerConfig, metric: str) -> float:
    percent = given.read("target-utilization-percentage")
    if percent is not None:
        return float(percent) / 100
    return _RPS_UTILIZATION if metric == "rps" else config.target_utilization


def _initial_scale(given: _Annotations, config: AutoscalerConfig) -> int:
    initial: int | None = given.read("initial-scale")
    if initial == 0 and not config.allow_zero_initial_scale:
        given.problems.append("initial-scale 0 is not allowed by allow-zero-initial-scale")
        initial = None
    return config.initial_scale if initial is None else initial


def _activation_scale(given: _Annotations, least: int, most: int) -> int:
    scale: int = given.read("activation-scale") or 0
    if scale and (scale < least or (most and scale > most)):
        given.problems.append(f"activation-scale {scale} is not between min-scale and max-scale")
        return min(max(scale, least), most or scale)
    return scale


def _max_scale(given: _Annotations, config: AutoscalerConfig) -> int:
    most: int | None = given.read("max-scale")
    limit = config.max_scale_limit
    if most is not None and limit and not 1 <= most <= limit:
        given.problems.append(f"max-scale {most} is not within max-scale-limit; {limit} counts")
        return limit
    return config.max_scale if most is None else most
