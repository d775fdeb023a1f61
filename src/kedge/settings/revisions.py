"""The ConfigMaps `config-gc` and `config-network`: how revisions follow each other.

The keys and defaults are Knative's. Of `config-network` only `rollout-duration` is read. A value
that cannot be used is an error that names its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kedge.lib.durations import parse_duration
from kedge.settings.serving import ConfigError

GC_CONFIG_MAP = "config-gc"
NETWORK_CONFIG_MAP = "config-network"
_DISABLED = "disabled"
_HOUR = 3600.0


@dataclass(frozen=True)
class RevisionConfig:
    """How long revisions are kept that no request goes to, and how fast a new one takes over.

    Attributes:
        retain_since_create: seconds for which a revision is kept after it was made; None: that is
            no reason to keep it.
        retain_since_active: likewise, after the last request could go to it.
        min_non_active: revisions that are kept however old they are.
        max_non_active: revisions that are kept however young they are; None for any number.
        rollout_duration: seconds over which requests move to a new revision; 0 for at once.
    """

    retain_since_create: float | None = 48 * _HOUR
    retain_since_active: float | None = 15 * _HOUR
    min_non_active: int = 20
    max_non_active: int | None = 1000
    rollout_duration: float = 0.0

    @classmethod
    def parse(cls, gc: Mapping[str, str], network: Mapping[str, str]) -> RevisionConfig:
        """From the data of the two ConfigMaps, either of which may be empty.

        Raises:
            ConfigError: a value cannot be used.
        """
        default = cls()
        least, most = "min-non-active-revisions", "max-non-active-revisions"
        found = cls(
            _age(gc, "retain-since-create-time", default.retain_since_create),
            _age(gc, "retain-since-last-active-time", default.retain_since_active),
            _count(GC_CONFIG_MAP, gc, least, default.min_non_active),
            None
            if gc.get(most) == _DISABLED
            else _count(GC_CONFIG_MAP, gc, most, default.max_non_active or 0),
            float(_count(NETWORK_CONFIG_MAP, network, "rollout-duration", 0)),
        )
        if found.max_non_active is not None and found.max_non_active < found.min_non_active:
            raise _mistake(
                GC_CONFIG_MAP,
                most,
                f"{found.max_non_active} is less than `{least}`, {found.min_non_active}",
                f"Raise `{most}`, or lower `{least}`.",
            )
        return found


def _age(data: Mapping[str, str], key: str, default: float | None) -> float | None:
    text = data.get(key)
    if text is None:
        return default
    if text == _DISABLED:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = -1.0
    if seconds < 0:
        fix = f"Give `{key}` a duration such as 48h, or `{_DISABLED}`."
        raise _mistake(GC_CONFIG_MAP, key, f"{text!r} cannot be used", fix)
    return seconds


def _count(config_map: str, data: Mapping[str, str], key: str, default: int) -> int:
    text = data.get(key)
    if text is None:
        return default
    if not text.strip().isdigit():
        fix = f"Give `{key}` a whole number from 0."
        raise _mistake(config_map, key, f"{text!r} cannot be used", fix)
    return int(text)


def _mistake(config_map: str, key: str, problem: str, fix: str) -> ConfigError:
    return ConfigError(f"ConfigMap {config_map}, key `{key}`: {problem}.", fix=fix)
