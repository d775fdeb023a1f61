"""Decisions in words, for `kedge get scaling` and the log."""

from __future__ import annotations

from kedge.autoscaler.kpa import Decision
from kedge.autoscaler.parameters import Parameters
from kedge.autoscaler.target import Target
from kedge.lib.durations import format_duration

_WHAT = {"concurrency": "in flight", "rps": "requests a second"}


def explain(target: Target) -> str:
    """Why it gets as many pods as it gets."""
    step, decision = target.step, target.decision
    if step is None:
        return "nothing is decided yet"
    if step.why:
        return step.why
    return "" if decision is None else explain_load(decision, target.parameters)


def explain_load(decision: Decision, parameters: Parameters) -> str:
    """Why the load asks for as many pods as it asks for."""
    what = _WHAT[parameters.metric]
    goal = f"{_number(parameters.target)} a pod aimed at"
    load = decision.load
    if decision.panicking:
        window = format_duration(parameters.panic_window)
        said = f"panic: {_number(load.panic)} {what} over {window}, {goal}"
    else:
        window = format_duration(parameters.stable_window)
        said = f"{_number(load.stable)} {what} over {window}, {goal}"
    return said + _LIMITED[decision.limited].format(
        up=f"{parameters.max_scale_up_rate:g}",
        down=f"{parameters.max_scale_down_rate:g}",
        window=format_duration(parameters.stable_window),
        delay=format_duration(parameters.scale_down_delay),
        least=parameters.activation_scale,
    )


_LIMITED = {
    "": "",
    "up": "; at most {up} times the ready pods at once",
    "down": "; at most divided by {down} at once",
    "panic": "; no fewer than before until it has been calm for {window}",
    "delay": "; fewer only once that was so for {delay}",
    "activation": "; activation-scale is {least}",
}


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
