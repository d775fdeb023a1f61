"""The `config-autoscaler` ConfigMap: how revisions scale with their traffic, unless they say.

The keys, defaults and limits are Knative's. A value that cannot be used is an error that names its
key; keys for parts that Kedge does not have (`target-burst-capacity`, `activator-capacity`) are
read, checked and have no effect: every request passes the gateway, so there is nothing to switch
([decision 8](../../../docs/decisions/0008-no-switch-between-proxy-and-serve.md)).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kedge.lib.durations import parse_duration
from kedge.settings.serving import ConfigError

CONFIG_MAP_NAME = "config-autoscaler"

KPA = "kpa.autoscaling.knative.dev"
HPA = "hpa.autoscaling.knative.dev"


@dataclass(frozen=True)
class AutoscalerConfig:
    """What holds for every revision that does not say otherwise.

    Attributes:
        target_utilization: share of a pod's concurrency that is aimed at.
        concurrency_target: requests at once that a pod is taken to bear, where it has no limit.
        rps_target: requests a second that a pod is taken to bear.
        stable_window: seconds over which the load is averaged.
        panic_window_percentage: the short window's share of the stable one, in percent.
        panic_threshold_percentage: load over what the ready pods bear, in percent, from which on
            the short window decides.
        max_scale_up_rate: the most by which one decision multiplies the ready pods.
        max_scale_down_rate: the most by which one decision divides them.
        enable_scale_to_zero: whether the last pod may go.
        scale_to_zero_grace_period: seconds for which the gateway must have been in the way of every
            request before the last pod goes.
        retention: seconds for which the last pod stays once it has nothing to do.
        autoscaler_class: who scales what does not say.
        initial_scale: pods with which a revision proves itself.
        allow_zero_initial_scale: whether a revision may begin without a pod.
        min_scale: the fewest pods.
        max_scale: the most pods; 0 for no limit.
        max_scale_limit: the most that a revision may set as its own limit; 0 for any.
        scale_down_delay: seconds for which less must have been wanted before pods go.
    """

    target_utilization: float = 0.7
    concurrency_target: float = 100.0
    rps_target: float = 200.0
    stable_window: float = 60.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    enable_scale_to_zero: bool = True
    scale_to_zero_grace_period: float = 30.0
    retention: float = 0.0
    autoscaler_class: str = KPA
    initial_scale: int = 1
    allow_zero_initial_scale: bool = False
    min_scale: int = 0
    max_scale: int = 0
    max_scale_limit: int = 0
    scale_down_delay: float = 0.0

    @classmethod
    def from_config_map(cls, obj: Mapping[str, Any]) -> AutoscalerConfig:
        """The ConfigMap's settings.

        Raises:
            ConfigError: a value cannot be used; names the key and what would be right.
        """
        data = obj.get("data") or {}
        values: dict[str, Any] = {}
        for key, (name, read) in _KEYS.items():
            if key in data:
                value = _read(key, str(data[key]), read)
                if name:
                    values[name] = value
        config = cls(**values)
        _check(config)
        return config


_FOREVER = float("inf")


def number(least: float, most: float = _FOREVER, *, above: bool = False) -> Callable[[str], float]:
    """A reader of numbers from `least` (beyond it when `above`) to `most`."""
    said = f"a number {'above' if above else 'from'} {least:g}"
    said += "" if most == _FOREVER else f" to {most:g}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(said) from None
        if not least <= value <= most or (above and value == least):
            raise ValueError(said)
        return value

    return read


def whole(least: int) -> Callable[[str], int]:
    """A reader of whole numbers from `least`."""

    def read(text: str) -> int:
        if not text.strip().lstrip("+").isdigit() or int(text) < least:
            raise ValueError(f"a whole number from {least}")
        return int(text)

    return read


def duration(least: float, most: float, *, above: bool = False) -> Callable[[str], float]:
    """A reader of durations from `least` to `most` seconds."""
    said = f"a duration such as 90s, {'above' if above else 'from'} {least:g}s"
    said += "" if most == _FOREVER else f" to {most:g}s"

    def read(text: str) -> float:
        try:
            seconds = parse_duration(text)
        except ValueError:
            raise ValueError(said) from None
        if not least <= seconds <= most or (above and seconds == least):
            raise ValueError(said)
        return seconds

    return read


def window(text: str) -> float:
    """A stable window: whole seconds from 6 s to 1 h."""
    seconds = duration(6, 3600)(text)
    if seconds != int(seconds):
        raise ValueError("a duration of whole seconds from 6s to 1h")
    return seconds


def burst_capacity(text: str) -> float:
    """A target burst capacity: 0 or more, or -1."""
    value = number(-1)(text)
    if -1 < value < 0:
        raise ValueError("0 or more, or -1 for no limit")
    return float(value)


def one_of(*allowed: str) -> Callable[[str], str]:
    """A reader of one of some words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(" or ".join(allowed))
        return text

    return read


def _percentage_or_fraction(text: str) -> float:
    value = number(0, 100, above=True)(text)
    return float(value if value <= 1 else value / 100)


def _flag(text: str) -> bool:
    if text.strip().lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.strip().lower() == "true"


_class = one_of(KPA, HPA)
_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "container-concurrency-target-percentage": ("target_utilization", _percentage_or_fraction),
    "container-concurrency-target-default": ("concurrency_target", number(0.01)),
    "requests-per-second-target-default": ("rps_target", number(0.01)),
    "target-burst-capacity": ("", burst_capacity),
    "stable-window": ("stable_window", window),
    "panic-window-percentage": ("panic_window_percentage", number(1, 100)),
    "panic-threshold-percentage": ("panic_threshold_percentage", number(110, 1000)),
    "max-scale-up-rate": ("max_scale_up_rate", number(1, above=True)),
    "max-scale-down-rate": ("max_scale_down_rate", number(1, above=True)),
    "enable-scale-to-zero": ("enable_scale_to_zero", _flag),
    "scale-to-zero-grace-period": (
        "scale_to_zero_grace_period", duration(0, _FOREVER, above=True),
    ),
    "scale-to-zero-pod-retention-period": ("retention", duration(0, 3600)),
    "pod-autoscaler-class": ("autoscaler_class", _class),
    "activator-capacity": ("", number(1)),
    "initial-scale": ("initial_scale", whole(0)),
    "allow-zero-initial-scale": ("allow_zero_initial_scale", _flag),
    "min-scale": ("min_scale", whole(0)),
    "max-scale": ("max_scale", whole(0)),
    "max-scale-limit": ("max_scale_limit", whole(0)),
    "scale-down-delay": ("scale_down_delay", duration(0, 3600)),
}  # fmt: skip


ANNOTATION_PREFIX = "autoscaling.knative.dev/"
ANNOTATIONS: dict[str, Callable[[str], Any]] = {
    "class": _class,
    "metric": one_of("concurrency", "rps", "cpu", "memory"),
    "target": number(0.01),
    "target-utilization-percentage": number(1, 100),
    "target-burst-capacity": burst_capacity,
    "window": window,
    "panic-window-percentage": number(1, 100),
    "panic-threshold-percentage": number(110, 1000),
    "min-scale": whole(0),
    "max-scale": whole(0),
    "initial-scale": whole(0),
    "activation-scale": whole(2),
    "scale-down-delay": duration(0, 3600),
    "scale-to-zero-pod-retention-period": duration(0, 3600),
    "metric-aggregation-algorithm": one_of("linear", "weighted-exponential", "weightedExponential"),
}
"""What a revision may say of itself, by the annotation's name after the prefix, and how to read it:
the value, or a `ValueError` that says what would be right."""


def find_annotation(annotations: Mapping[str, str], name: str) -> str | None:
    """The key under which an annotation is given: its own name or Knative's older camelCase."""
    first, *rest = name.split("-")
    camel = first + "".join(part.capitalize() for part in rest)
    for key in (ANNOTATION_PREFIX + name, ANNOTATION_PREFIX + camel):
        if key in annotations:
            return key
    return None


def annotation_problems(annotations: Mapping[str, str]) -> list[tuple[str, str]]:
    """Keys whose value cannot be used, and what would be right."""
    found = []
    for name, read in ANNOTATIONS.items():
        key = find_annotation(annotations, name)
        if key is not None:
            try:
                read(str(annotations[key]))
            except ValueError as error:
                found.append((key, str(error)))
    return found


def _read(key: str, text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise _mistake(key, f"{text!r} cannot be used", f"Give `{key}` {error}.") from None


def _check(config: AutoscalerConfig) -> None:
    if config.stable_window * config.panic_window_percentage / 100 < 1:
        raise _mistake(
            "panic-window-percentage",
            f"{config.panic_window_percentage:g} % of {config.stable_window:g} s are less than 1 s",
            "Raise `panic-window-percentage` or `stable-window`.",
        )
    if 0 < config.max_scale < config.min_scale:
        raise _mistake(
            "max-scale",
            f"{config.max_scale} is less than `min-scale`, {config.min_scale}",
            "Raise `max-scale`, or set it to 0 for no limit.",
        )
    limit = config.max_scale_limit
    if limit and not 1 <= config.max_scale <= limit:
        raise _mistake(
            "max-scale",
            f"{config.max_scale} is not within `max-scale-limit`, {limit}",
            f"Set `max-scale` to 1 to {limit}.",
        )
    if config.initial_scale == 0 and not config.allow_zero_initial_scale:
        raise _mistake(
            "initial-scale",
            "0 is not allowed here",
            "Set `allow-zero-initial-scale` to true, or `initial-scale` to 1.",
        )


def _mistake(key: str, problem: str, fix: str) -> ConfigError:
    return ConfigError(f"ConfigMap {CONFIG_MAP_NAME}, key `{key}`: {problem}.", fix=fix)
