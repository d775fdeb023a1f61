"""From a wanted number to replicas: bounds, a revision's proof, the last pod's way out and back.

::

    ACTIVATING ── enough pods are ready ──> ACTIVE ── nothing asked for a stable window ──> INACTIVE
        ^   `──── the deadline has passed: zero                                                |  |
        `─────────────────────── a request ──── (the pod is still there: ACTIVE again) ────────´  |
                                                   grace and retention have passed: zero <────────´

Pure; the time is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kedge.autoscaler.parameters import Parameters
from kedge.lib.durations import format_duration

DEADLINE_SLACK = 30.0
"""Seconds beyond the progress deadline before pods that never got ready are given up."""


class Phase(StrEnum):
    ACTIVATING = "Activating"
    ACTIVE = "Active"
    INACTIVE = "Inactive"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a step is decided on.

    Attributes:
        now: seconds of some clock.
        desired: what the load asks for; None when nothing is known of it.
        ready: pods that are ready.
        replicas: pods asked for up to now.
        watched_since: since when the gateways have told of every request without a break; None
            while they do not.
        keep: no pod may go now, for the reason that `keep` says.
    """

    now: float
    desired: int | None
    ready: int
    replicas: int
    watched_since: float | None = None
    keep: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done.

    Attributes:
        replicas: how many pods there should be now.
        wanted: what that will come to.
        why: the reason, in words; empty where it is the load itself.
        again: when to look again although nothing changed; None when that needs no look.
    """

    replicas: int
    wanted: int
    why: str = ""
    again: float | None = None


class Lifecycle:
    """One Deployment's way between zero and many.

    Attributes:
        phase: where it stands; since: from when on.
        asked: whether anybody has asked for it since it is there, or might have.
    """

    __slots__ = ("_given_up", "_reached", "asked", "phase", "since")

    def __init__(self, now: float, ready: int, replicas: int, *, proven: bool) -> None:
        self.since = now
        self.asked = proven
        self._reached = proven
        self._given_up = False
        if ready > 0:
            self.phase = Phase.ACTIVE
        else:
            self.phase = Phase.ACTIVATING if replicas else Phase.INACTIVE

    def renew(self, now: float, *, proven: bool) -> None:
        """Its pods are to be others from now on: they have their own proof to give."""
        self._given_up = False
        self._reached = proven
        self.since = now

    def step(self, scene: Scene, parameters: Parameters) -> Step:
        """What is to be done now."""
        if scene.ready >= self._threshold(parameters):
            self._reached, self._given_up = True, False
            if self.phase is Phase.ACTIVATING:
                self._enter(Phase.ACTIVE, scene.now)
        step = self._step(scene, parameters)
        if scene.keep and step.replicas < scene.replicas:
            step = Step(scene.replicas, scene.replicas, scene.keep)
        self._follow(scene, step.wanted, parameters)
        return step

    def _step(self, scene: Scene, parameters: Parameters) -> Step:
        least, why = self._least(scene, parameters)
        if least == 0 and not scene.desired and self._has_done_its_part(scene, parameters):
            return Step(0, 0, "it has proved itself and nobody has asked")
        if scene.desired is None and self.phase is not Phase.ACTIVATING and scene.replicas >= least:
            why = "nothing is known of its requests yet" if scene.replicas else "nobody asks"
            return Step(scene.replicas, scene.replicas, why)
        desired = scene.desired or 0
        if desired < least:
            return Step(least, least, why)
        if parameters.max_scale and desired > parameters.max_scale:
            most = parameters.max_scale
            return Step(most, most, f"max-scale is {most}, the load asks for {desired}")
        if desired:
            return Step(desired, desired)
        return self._towards_zero(scene, parameters)

    def _least(self, scene: Scene, parameters: Parameters) -> tuple[int, str]:
        least = parameters.fewest
        why = f"min-scale is {least}"
        if least > parameters.min_scale:
            why = f"it keeps {least} pods for the requests that move to it"
        proved = self._reached and parameters.proven
        proving = parameters.reachable and not proved and not self._given_up
        if proving and parameters.initial_scale > least and not self._is_overdue(scene, parameters):
            count = parameters.initial_scale
            pods = "one pod" if count == 1 else f"{count} pods"
            return count, f"a new revision proves itself with {pods}"
        return least, why

    def _has_done_its_part(self, scene: Scene, parameters: Parameters) -> bool:
        """A pod whose only purpose was to prove its revision need not be there any longer.

        Whoever asks at this moment wakes the next one.
        """
        served = self.asked or not parameters.scale_to_zero
        return parameters.proven and not served and scene.ready > 0

    def _is_overdue(self, scene: Scene, parameters: Parameters) -> bool:
        limit = parameters.progress_deadline + DEADLINE_SLACK
        return self.phase is Phase.ACTIVATING and scene.now - self.since >= limit

    def _towards_zero(self, scene: Scene, parameters: Parameters) -> Step:
        if scene.replicas == 0:
            return Step(0, 0, "nobody asks")
        if not parameters.scale_to_zero:
            return Step(1, 1, "enable-scale-to-zero is false")
        if self.phase is Phase.ACTIVATING:
            return self._give_up(scene, parameters)
        if self.phase is Phase.ACTIVE:
            return self._wind_down(scene, parameters)
        return self._let_go(scene, parameters)

    def _give_up(self, scene: Scene, parameters: Parameters) -> Step:
        deadline = self.since + parameters.progress_deadline + DEADLINE_SLACK
        if scene.now >= deadline:
            self._given_up = True
            waited = format_duration(parameters.progress_deadline)
            return Step(0, 0, f"no pod got ready within {waited}, and nobody asks")
        why = "it is starting"
        return Step(scene.replicas, scene.replicas, why, again=deadline)

    def _wind_down(self, scene: Scene, parameters: Parameters) -> Step:
        end = self.since + parameters.stable_window
        if parameters.reachable and scene.now < end:
            window = format_duration(parameters.stable_window)
            return Step(1, 1, f"it has been active for less than {window}", again=end)
        return Step(scene.replicas, 0, "nobody asks: the last pod goes next", again=scene.now)

    def _let_go(self, scene: Scene, parameters: Parameters) -> Step:
        if not parameters.reachable:
            return Step(0, 0, "no request is meant for it any more")
        if parameters.retention:
            end = self.since + parameters.retention
            if scene.now < end:
                kept = format_duration(parameters.retention)
                why = f"the last pod is kept for {kept}"
                return Step(scene.replicas, 0, why, again=end)
        if scene.now - self.since >= parameters.grace:
            return Step(0, 0, "nobody asks")
        if scene.watched_since is None:
            why = "no gateway holds its requests yet"
            return Step(scene.replicas, 0, why, again=self.since + parameters.grace)
        end = scene.watched_since + parameters.grace
        if scene.now < end:
            grace = format_duration(parameters.grace)
            why = f"the gateway has held its requests for less than {grace}"
            return Step(scene.replicas, 0, why, again=end)
        return Step(0, 0, "nobody asks")

    def _threshold(self, parameters: Parameters) -> int:
        """How many ready pods make it active."""
        if self._reached:
            return max(parameters.min_scale, 1)
        return max(parameters.min_scale, parameters.initial_scale)

    def _follow(self, scene: Scene, wanted: int, parameters: Parameters) -> None:
        threshold = self._threshold(parameters)
        if wanted == 0 or threshold == 0:
            phase = Phase.INACTIVE
        elif scene.ready < threshold:
            phase = Phase.ACTIVATING
        else:
            phase = Phase.ACTIVE
        self._enter(phase, scene.now)

    def _enter(self, phase: Phase, now: float) -> None:
        if phase is not self.phase:
            self.phase, self.since = phase, now
