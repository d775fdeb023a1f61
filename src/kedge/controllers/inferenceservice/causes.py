"""Why a component is not ready: from what its pods show to one cause and one fix.

Pure: pods, the Deployment's conditions and the pod's events in, a `Cause` out. The same text goes
to the condition, to `modelStatus.lastFailureInfo` and to an event, so that every reader sees it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kedge.cluster.base import Object
from kedge.controllers.inferenceservice.names import (
    MODEL_PATH,
    SERVER_CONTAINER,
    STORAGE_INITIALIZER,
)
from kedge.controllers.inferenceservice.observe import conditions_of

NOT_READY = "NotReady"
UNSCHEDULABLE = "Unschedulable"
"""A container runs, but its probe has not succeeded: it may still be loading."""
SCALED_TO_ZERO = "ScaledToZero"
"""Somebody took all pods away."""

_STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})
_MOUNT_EVENTS = frozenset(
    {
        "FailedMount",
        "ModelChanged",
        "FailedAttachVolume",
        "FailedCreatePodSandBox",
        "FailedScheduling",
        "Failed",
        "NodeAgentError",
    }
)
_FIX = re.compile(r"\s*\bFix: (.+)$", re.DOTALL)
_NO_MODEL = re.compile(r"No [\w-]+ model in |folder is empty|does not exist", re.IGNORECASE)
_NAMED = re.compile(r"([A-Z][A-Za-z]+)(?<!Error)(?<!Exception)(?<!Warning): ")
"""How Kedge's own programs begin: a reason, not the name of some exception."""
_LAST_LINES = 5
_PATIENCE = 4
"""Seconds that any server may take to get ready, whatever its probe says."""
_MESSAGE_LIMIT = 1500

_MODEL_FILES = {
    "sklearn": "model.joblib, model.pkl or model.pickle",
    "xgboost": "model.bst, model.json or model.ubj",
    "lightgbm": "model.bst or model.txt",
}


@dataclass(frozen=True)
class Cause:
    """Why a component does not serve.

    Attributes:
        component: predictor, transformer or explainer.
        pod: the pod it was seen on; empty when no pod came to be.
        container: the container in it; empty when the whole pod is meant.
        reason: a CamelCase word.
        exit_code: of the container that ended, if one did.
        evidence: what was seen, the last lines included.
        fix: one sentence that mends it.
        model_failed: whether the model or its files are to blame.
    """

    component: str
    pod: str
    container: str
    reason: str
    evidence: str
    fix: str
    exit_code: int | None = None
    model_failed: bool = False

    @property
    def message(self) -> str:
        """All of it in one line of text, the fix last."""
        place = [f"{self.component.capitalize()}"]
        if self.pod:
            place.append(f"pod {self.pod}")
        if self.container:
            place.append(f"container {self.container}")
        code = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        said = self.evidence.strip()
        if len(said) > _MESSAGE_LIMIT:
            said = f"…{said[-_MESSAGE_LIMIT:]}"
        end = "" if said.endswith((".", "!", "?")) else "."
        return f"{', '.join(place)}: {self.reason}{code}: {said}{end} Fix: {self.fix}"

    @property
    def location(self) -> str:
        """Where it happened, as `modelStatus.lastFailureInfo.location` has it."""
        return "/".join(part for part in (self.component, self.pod, self.container) if part)


@dataclass(frozen=True)
class Scene:
    """What is known of a component besides its pods' status.

    Attributes:
        isvc: the service's name.
        component: predictor, transformer or explainer.
        model_format: of its model; empty for containers.
        events: of the pod that is looked at, oldest first.
        log: the last lines of a container that runs but does not get ready.
        now: the time.
    """

    isvc: str
    component: str
    model_format: str = ""
    events: Sequence[Object] = ()
    log: str = ""
    now: datetime | None = None


def find_cause(pods: Sequence[Object], deployment: Object | None, scene: Scene) -> Cause | None:
    """The cause that the newest pods of a component show; None while nothing speaks of one.

    Args:
        pods: pods of the wanted template, the newest first.
        deployment: their Deployment.
        scene: the rest.
    """
    for pod in pods:
        cause = _of_pod(pod, scene)
        if cause is not None:
            return cause
    return _of_deployment(deployment, scene)


def _of_deployment(deployment: Object | None, scene: Scene) -> Cause | None:
    failure = conditions_of(deployment or {}).get("ReplicaFailure", {})
    if failure.get("status") != "True":
        return None
    said, fix = split_fix(str(failure.get("message") or ""))
    return Cause(
        component=scene.component,
        pod="",
        container="",
        reason=str(failure.get("reason") or "FailedCreate"),
        evidence=f"no pod could be created: {said}",
        fix=fix or "Change what the API refuses in the component's pod spec, or raise the quota.",
    )


def _of_pod(pod: Object, scene: Scene) -> Cause | None:
    status = pod.get("status") or {}
    if status.get("reason") and status.get("phase") == "Failed":
        return _pod_cause(pod, scene, str(status["reason"]), str(status.get("message") or ""))
    scheduled = conditions_of(pod).get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") != "SchedulingGated":
        reason = str(scheduled.get("reason") or UNSCHEDULABLE)
        return _pod_cause(pod, scene, reason, str(scheduled.get("message") or ""))
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or ():
            cause = _of_container(pod, container, scene, init=kind.startswith("init"))
            if cause is not None:
                return cause
    return _of_events(pod, scene) or _of_probe(pod, scene)


def _pod_cause(pod: Object, scene: Scene, reason: str, message: str) -> Cause:
    said, fix = split_fix(message)
    return Cause(
        component=scene.component,
        pod=_name(pod),
        container="",
        reason=reason,
        evidence=_in_user_terms(said or reason, pod),
        fix=_in_user_terms(fix, pod) or _pod_fix(reason, said, pod, scene),
    )


def _pod_fix(reason: str, said: str, pod: Object, scene: Scene) -> str:
    path = f"spec.{scene.component}"
    if reason == UNSCHEDULABLE:
        asked = ", ".join(f"{name} {amount}" for name, amount in sorted(_requests(pod).items()))
        return (
            f"Lower the requests of `{path}` (now {asked or 'none'}) to what a node has free, or"
            " delete services that are not needed: kubectl delete isvc NAME."
        )
    if reason == "Evicted":
        return "Free disk space and memory on the node; the pod is made again by itself."
    if reason in ("FailedMount", "FailedAttachVolume"):
        files = _MODEL_FILES.get(scene.model_format)
        source = _model_source(pod)
        if files and source:
            return f"Put exactly one of {files} into {source}."
        return f"Create what is missing, or correct `storageUri` and `volumes` of `{path}`."
    return f"Correct `{path}` by what the message says."


# -- containers --------------------------------------------------------------------------------


def _of_container(
    pod: Object, status: Mapping[str, Any], scene: Scene, *, init: bool
) -> Cause | None:
    state = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated")
    waiting, ended = state.get("waiting"), state.get("terminated")
    if ended is not None and (int(ended.get("exitCode") or 0) != 0 or not init):
        return _ended(pod, status, ended, scene, init=init)
    if waiting is not None and str(waiting.get("reason") or "") not in _STARTING:
        if last is not None and waiting["reason"] == "CrashLoopBackOff":
            return _ended(pod, status, last, scene, init=init)
        return _held_up(pod, status, waiting, scene)
    if last is not None and not status.get("ready") and (init or not _is_done(ended)):
        return _ended(pod, status, last, scene, init=init)
    return None


def _is_done(ended: Mapping[str, Any] | None) -> bool:
    return ended is not None and int(ended.get("exitCode") or 0) == 0


def _held_up(
    pod: Object, status: Mapping[str, Any], waiting: Mapping[str, Any], scene: Scene
) -> Cause:
    """A container that could not be started."""
    reason = str(waiting["reason"])
    said, fix = split_fix(str(waiting.get("message") or reason))
    image = str(status.get("image") or _spec_of(pod, status).get("image") or "")
    if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName") and image not in said:
        said = f"{said} (image {image})"
    return Cause(
        component=scene.component,
        pod=_name(pod),
        container=str(status.get("name")),
        reason=reason,
        evidence=_in_user_terms(said, pod),
        fix=_in_user_terms(fix, pod) or _waiting_fix(reason, image, scene),
    )


def _waiting_fix(reason: str, image: str, scene: Scene) -> str:
    fixes = {
        "ErrImagePull": f"Correct the image `{image}` in `spec.{scene.component}`, or make it"
        " available to the node.",
        "CreateContainerConfigError": "Create the Secret or ConfigMap that the message names, or"
        f" correct the reference in `spec.{scene.component}`.",
        "PortInUse": "End what holds the port, or give the container another one.",
    }
    fixes["ImagePullBackOff"] = fixes["InvalidImageName"] = fixes["ErrImagePull"]
    return fixes.get(
        reason, f"Correct the container in `spec.{scene.component}` by what the message says."
    )


def _ended(
    pod: Object,
    status: Mapping[str, Any],
    ended: Mapping[str, Any],
    scene: Scene,
    *,
    init: bool,
) -> Cause:
    """A container that ended though it should run, or an init container that failed."""
    code = int(ended.get("exitCode") or 0)
    name = str(status.get("name"))
    said, fix = split_fix(str(ended.get("message") or ""))
    said = _last_lines(_without_frames(said))
    reason = str(ended.get("reason") or "Error")
    named = _NAMED.match(said)
    if named and reason in ("Error", "Completed"):
        reason, said = named[1], said[named.end() :]
    if not said:
        said = "it wrote nothing" if code else "it ended, but a server must keep running"
    if reason == "OOMKilled":
        said = _with_limit(said, pod, status)
    return Cause(
        component=scene.component,
        pod=_name(pod),
        container=name,
        reason=_reason(reason, name, said),
        evidence=_in_user_terms(said, pod),
        fix=_missing_model_fix(said, pod, scene)
        or _in_user_terms(fix, pod)
        or _ending_fix(reason, name, said, pod, scene),
        exit_code=code,
        model_failed=init or name == SERVER_CONTAINER,
    )


def _missing_model_fix(said: str, pod: Object, scene: Scene) -> str:
    """Which file to put where, when the server found none; empty otherwise."""
    files, source = _MODEL_FILES.get(scene.model_format), _model_source(pod)
    if not files or not source or not _NO_MODEL.search(said):
        return ""
    return f"Put exactly one of {files} into {source}."


def _reason(reason: str, container: str, said: str) -> str:
    if reason not in ("Error", "Completed"):
        return reason
    if container == STORAGE_INITIALIZER:
        return "StorageFailed"
    return "ContainerExited"


def _with_limit(said: str, pod: Object, status: Mapping[str, Any]) -> str:
    limit = ((_spec_of(pod, status).get("resources") or {}).get("limits") or {}).get("memory")
    if not limit or str(limit) in said:
        return said
    return f"{said.rstrip('.')} (limits.memory {limit})"


def _ending_fix(reason: str, container: str, said: str, pod: Object, scene: Scene) -> str:
    path = f"spec.{scene.component}"
    for pattern, fix in _KNOWN_WORDS:
        if pattern.search(said):
            return fix(scene, pod)
    if reason == "OOMKilled":
        return (
            f"Raise `resources.limits.memory` of the container {container} in `{path}` above the"
            " peak, or use a smaller model."
        )
    if container == STORAGE_INITIALIZER:
        return f"Correct the storage URI in `{path}`, or put the model's files there."
    if scene.model_format:
        return (
            f"Mend the model's files or arguments by what the lines say (all of them: kedge logs"
            f" {scene.isvc}); it is started again by itself."
        )
    return (
        f"Correct `command`, `args` or `image` of the container {container} in `{path}` by what"
        f" the lines say (all of them: kedge logs {scene.isvc})."
    )


_KNOWN_WORDS: tuple[tuple[re.Pattern[str], Callable[[Scene, Object], str]], ...] = (
    (
        re.compile("address already in use", re.IGNORECASE),
        lambda scene, pod: (
            f"Have only one server in the containers of `spec.{scene.component}` listen on that"
            " port, or give one of them another."
        ),
    ),
    (
        re.compile("no space left on device|disk is full|disk quota", re.IGNORECASE),
        lambda scene, pod: (
            "Free space on that disk, or use a smaller model; it is started again by itself."
        ),
    ),
)


# -- pods that neither start nor fail ------------------------------------------------------------


def _of_events(pod: Object, scene: Scene) -> Cause | None:
    """What keeps a pod that shows nothing itself from starting."""
    status = pod.get("status") or {}
    if status.get("phase") not in (None, "Pending"):
        return None
    for event in reversed(scene.events):
        if event.get("type") == "Warning" and event.get("reason") in _MOUNT_EVENTS:
            return _pod_cause(pod, scene, str(event["reason"]), str(event.get("message") or ""))
    return None


def _of_probe(pod: Object, scene: Scene) -> Cause | None:
    """A container that runs but does not get ready, once its probe has failed long enough."""
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        running = (status.get("state") or {}).get("running")
        if running is None or status.get("ready"):
            continue
        name = str(status.get("name"))
        if not _is_overdue(_spec_of(pod, status), status, running, scene):
            continue
        failing = [
            str(event.get("message") or "")
            for event in scene.events
            if event.get("reason") == "Unhealthy" and _speaks_of(event, name, pod)
        ]
        probe = _describe_probe(_spec_of(pod, status))
        told = failing[-1].removeprefix(f"{name}: ") if failing else ""
        seen = f"it runs, but {probe} has not succeeded"
        seen += f" ({told})" if told else ""
        lines = _last_lines(scene.log)
        return Cause(
            component=scene.component,
            pod=_name(pod),
            container=name,
            reason=NOT_READY,
            evidence=f"{seen}; last lines: {lines}" if lines else f"{seen} and it wrote nothing",
            fix=f"If it is still loading, wait; otherwise have the container {name} answer"
            f" {probe.removeprefix('its readiness probe ')}, or correct its readinessProbe in"
            f" `spec.{scene.component}`.",
        )
    return None


def _speaks_of(event: Object, container: str, pod: Object) -> bool:
    """Whether a probe event is about that container; kubelet names it by the field path."""
    path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
    if path:
        return f"{{{container}}}" in path
    message = str(event.get("message") or "")
    others = [c["name"] for c in pod["spec"].get("containers") or () if c["name"] != container]
    return not any(message.startswith(f"{other}: ") for other in others)


def _is_overdue(
    spec: Mapping[str, Any],
    status: Mapping[str, Any],
    running: Mapping[str, Any],
    scene: Scene,
) -> bool:
    """Whether a container has had all the time that its probes give it.

    As long as a startup probe has not succeeded, that one counts: the server is starting.
    """
    started = running.get("startedAt")
    if scene.now is None or not started:
        return False
    age = (scene.now - datetime.fromisoformat(str(started))).total_seconds()
    if spec.get("startupProbe") and not status.get("started"):
        return age > _budget(spec["startupProbe"])
    return age > max(_budget(spec.get("readinessProbe") or {}), _PATIENCE)


def _budget(probe: Mapping[str, Any]) -> int:
    """Seconds after which a probe that never succeeded counts as failed."""
    period = int(probe.get("periodSeconds") or 10) * int(probe.get("failureThreshold") or 3)
    return int(probe.get("initialDelaySeconds") or 0) + period


def _describe_probe(spec: Mapping[str, Any]) -> str:
    probe = spec.get("readinessProbe") or {}
    if action := probe.get("httpGet"):
        return (
            f"its readiness probe HTTP GET {action.get('path') or '/'} on port {action.get('port')}"
        )
    if action := probe.get("tcpSocket"):
        return f"its readiness probe on TCP port {action.get('port')}"
    if action := probe.get("grpc"):
        return f"its readiness probe by gRPC on port {action.get('port')}"
    if action := probe.get("exec"):
        return f"its readiness probe command `{' '.join(action.get('command') or ())}`"
    return "its readiness"


# -- texts ---------------------------------------------------------------------------------------


def split_fix(text: str) -> tuple[str, str]:
    """What a text says, and the fix it ends with, if it has one."""
    found = _FIX.search(text)
    if found is None:
        return text.strip(), ""
    fix = found[1].strip().splitlines()[0].strip()
    return (text[: found.start()]).strip(), fix


def _last_lines(text: str) -> str:
    """The end of what a container wrote, in one line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])


_FRAME = re.compile(r'\s*File "([^"]+)", line (\d+)')


def _without_frames(text: str) -> str:
    """A Python traceback is its last line and the place it names; the whole of it is in the log."""
    kept: list[str] = []
    place = ""
    for line in text.splitlines():
        frame = _FRAME.match(line)
        if frame:
            place = f" ({frame[1]}, line {frame[2]})"
        elif place and not line[:1].isspace() and line.strip():
            kept.append(line + place)
            place = ""
        elif not place and not line.startswith("Traceback (most recent call last)"):
            kept.append(line)
    return "\n".join(kept) or text


def _in_user_terms(text: str, pod: Object) -> str:
    """Name the model's folder as its owner knows it, not as the container sees it."""
    source = _model_source(pod)
    if not source or MODEL_PATH not in text:
        return text
    return re.sub(rf"{re.escape(MODEL_PATH)}(?![\w-])", lambda _: source, text)


def _model_source(pod: Object) -> str:
    """The folder of the machine that is mounted at the model's path, when one is."""
    spec = pod["spec"]
    paths = {
        str(volume["name"]): str(volume["hostPath"]["path"])
        for volume in spec.get("volumes") or ()
        if volume.get("hostPath")
    }
    for container in spec.get("containers") or ():
        for mount in container.get("volumeMounts") or ():
            place, path = str(mount.get("mountPath")), paths.get(str(mount.get("name")), "")
            if path and place == MODEL_PATH:
                return path
            if path and place.startswith(f"{MODEL_PATH}/"):
                return posixpath.dirname(path)
    return ""


def _spec_of(pod: Object, status: Mapping[str, Any]) -> dict[str, Any]:
    spec = pod["spec"]
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if container.get("name") == status.get("name"):
            found: dict[str, Any] = container
            return found
    return {}


def _requests(pod: Object) -> dict[str, str]:
    """What the containers ask for; amounts of several are listed, not summed."""
    asked: dict[str, str] = {}
    for container in pod["spec"].get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            asked[name] = f"{asked[name]} + {amount}" if name in asked else str(amount)
    return asked


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])
