"""What a component asks of its server: logging payloads, joining requests, limits.

KServe puts an agent container before the server for the first two. Kedge's own server does all of
it, told by flags; to any other image nothing is added, and what it will not do is said. A flag
that the container has already is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from kedge.controllers.inferenceservice.components import Warned
from kedge.controllers.inferenceservice.images import is_kedge_server
from kedge.controllers.inferenceservice.merge import Tree, add_env_if_absent
from kedge.controllers.inferenceservice.names import (
    BATCHER_RESPONSE,
    KEDGE_SERVER,
    SERVER_TYPE,
    ComponentKind,
)
from kedge.controllers.inferenceservice.pod import serving_container
from kedge.settings.serving import ServingConfig

_CERTIFICATES = "/etc/tls/logger"
_POD_NAME = {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
_LOG_SCHEMES = ("http", "https", "file")


class ServingFlags:
    """The flags of one component's server, and what it will not do."""

    def __init__(
        self,
        kind: ComponentKind,
        spec: Mapping[str, Any],
        annotations: Mapping[str, str],
        config: ServingConfig,
    ) -> None:
        self._kind = kind
        self._spec = spec
        self._annotations = annotations
        self._config = config
        self.warnings: list[Warned] = []

    def add(self, pod: Tree, isvc: str, namespace: str, family: str = "") -> None:
        """Changes the container that requests reach, if that is a server of Kedge.

        Args:
            pod: a pod spec that is ours to change.
            family: the server type that the runtime declares.
        """
        container = serving_container(pod)
        image = str(container.get("image") or "")
        declared = self._annotations.get(SERVER_TYPE, family)
        if declared != KEDGE_SERVER and not is_kedge_server(image):
            self._warn_of_foreign(image)
            return
        flags = [*self._limits(), *self._batching()]
        if (url := self._log_url()) is not None:
            flags += self._logging(url, isvc, namespace)
            add_env_if_absent(container, [_POD_NAME])
            self._mount_certificates(pod, container, url)
        _append(container, flags)

    def _warn(self, field: str, message: str) -> None:
        self.warnings.append(Warned(f"spec.{self._kind}.{field}", message))

    def _warn_of_foreign(self, image: str) -> None:
        for field, what in (
            ("logger", "its payloads are not logged"),
            ("batcher", "its requests are not batched"),
        ):
            if self._spec.get(field) is not None:
                self._warn(
                    field,
                    f"{what}, for `{image}` is not known to be a server of Kedge. If it is built on"
                    f" kedge.server, say so by the annotation {SERVER_TYPE}: {KEDGE_SERVER}.",
                )

    # -- limits and batches ----------------------------------------------------------------

    def _limits(self) -> Iterator[str]:
        if concurrency := int(self._spec.get("containerConcurrency") or 0):
            yield f"--max_concurrency={concurrency}"
        batch = (self._spec.get("batcher") or {}).get("timeout")
        times = [int(one) for one in (self._spec.get("timeout"), batch) if one]
        if times:
            yield f"--request_timeout={min(times)}"

    def _batching(self) -> Iterator[str]:
        batcher = self._spec.get("batcher")
        if batcher is None:
            return
        if self._kind is ComponentKind.EXPLAINER:
            self._warn("batcher", "explanations are not batched.")
            return
        yield "--batching=true"
        for field, flag in (("maxBatchSize", "max_batch_size"), ("maxLatency", "max_latency")):
            if batcher.get(field) is not None:
                yield f"--{flag}={int(batcher[field])}"
        if self._annotations.get(BATCHER_RESPONSE) == "kserve":
            yield "--batcher_response=true"

    # -- payloads --------------------------------------------------------------------------

    def _log_url(self) -> str | None:
        logger = self._spec.get("logger")
        if logger is None:
            return None
        url = str(logger.get("url") or self._config.logger.default_url)
        if not url:
            self._warn(
                "logger.url",
                "payloads are not logged, for nothing says where to: set it, or `defaultUrl` of the"
                " ConfigMap inferenceservice-config, key `logger`.",
            )
            return None
        if urlsplit(url).scheme not in _LOG_SCHEMES:
            self._warn(
                "logger.url",
                f"payloads are not logged: {url} is neither an http, an https nor a file URL, and"
                " object stores are not in this release.",
            )
            return None
        return url

    def _logging(self, url: str, isvc: str, namespace: str) -> Iterator[str]:
        logger = self._spec["logger"]
        yield f"--log-url={_literal(url)}"
        yield f"--log-mode={logger.get('mode') or 'all'}"
        yield "--source-uri=$(POD_NAME)"
        yield f"--log-inference-service={isvc}"
        yield f"--log-namespace={namespace}"
        yield f"--log-component={self._kind}"
        if logger.get("metadataHeaders"):
            yield f"--metadata-headers={','.join(logger['metadataHeaders'])}"
        for name in logger.get("metadataAnnotations") or ():
            if name in self._annotations:
                yield f"--metadata-annotations={name}={_literal(self._annotations[name])}"
            else:
                self._warn("logger.metadataAnnotations", f"there is no annotation `{name}`.")
        if url.startswith("https:"):
            settings = self._config.logger
            if settings.ca_cert_file:
                yield f"--logger-ca-cert-file={settings.ca_cert_file}"
            if settings.tls_skip_verify:
                yield "--logger-tls-skip-verify=true"

    def _mount_certificates(self, pod: Tree, container: Tree, url: str) -> None:
        bundle = self._config.logger.ca_bundle
        if not bundle or not url.startswith("https:"):
            return
        name = "logger-ca-bundle"
        source = {"name": bundle, "optional": True}
        pod.setdefault("volumes", []).append({"name": name, "configMap": source})
        container.setdefault("volumeMounts", []).append(
            {"name": name, "mountPath": _CERTIFICATES, "readOnly": True}
        )


def _append(container: Tree, flags: list[str]) -> None:
    given = [*(container.get("command") or ()), *(container.get("args") or ())]
    present = {_name(str(word)) for word in given}
    wanted = [
        flag
        for flag in flags
        if _name(flag) not in present or _name(flag) == "--metadata-annotations"
    ]
    if wanted:
        container["args"] = [*(container.get("args") or ()), *wanted]


def _name(word: str) -> str:
    return word.partition("=")[0].replace("_", "-")


def _literal(text: str) -> str:
    """`text` as an argument in which nothing is replaced by a variable."""
    return text.replace("$", "$$")
