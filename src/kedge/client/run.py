"""From a model to a running service in one call: `kedge.run(model)` and `kedge run PATH`.

The model's format is detected, an InferenceService is written for it (and shown: it is the YAML one
would keep), applied and waited for. An object in memory is saved first, into a folder named after
its bytes, so that a changed model is a new revision and an unchanged one is not.
"""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kedge.api.scheme import INFERENCE_SERVICE
from kedge.client.control import ControlClient
from kedge.client.errors import ModelError
from kedge.client.inference import InferenceClient, Target
from kedge.client.kubeconfig import Access, discover, running_pid
from kedge.client.manifests import dump
from kedge.client.models import FoundModel, find_model, save
from kedge.client.payloads import sample_inputs
from kedge.client.sync import blocking, print_warning
from kedge.client.waiting import Object, Progress
from kedge.settings.local import default_data_dir


@dataclass(frozen=True)
class RunningModel:
    """A service that is Ready.

    Attributes:
        name: the InferenceService's.
        namespace: where it is.
        url: base of its REST paths.
        curl: a command that sends it one valid row; empty when the model does not tell its inputs.
        manifest: the YAML that made it.
    """

    name: str
    namespace: str
    url: str
    curl: str
    manifest: str
    access: Access = field(repr=False)

    def predict(self, data: Any, protocol: str = "v1") -> Any:
        """The answer to rows, or to a V1 or V2 body, over `v1`, `v2` or `grpc`."""

        async def ask() -> Any:
            async with ControlClient(self.access) as client:
                service = await client.get(INFERENCE_SERVICE, self.name, self.namespace)
            async with InferenceClient(Target.of(service)) as inference:
                return await inference.predict(data, protocol)

        return blocking(ask())

    def delete(self) -> None:
        """Delete the service; the model's files stay."""

        async def end() -> None:
            async with ControlClient(self.access) as client:
                await client.delete(INFERENCE_SERVICE, self.name, self.namespace)

        blocking(end())


def run(
    model: Any,
    name: str = "",
    *,
    namespace: str | None = None,
    timeout: float = 120.0,
    access: Access | None = None,
    show: Callable[[str], None] | None = print,
) -> RunningModel:
    """Serve a model and wait until it answers.

    Args:
        model: a path (model file, its folder, or a .py file that defines `model`), or a fitted
            scikit-learn, XGBoost or LightGBM model.
        name: of the service; made from the file's or the class' name when empty.
        access: which Kedge; found as the command line finds it when None.
        show: told the YAML and the curl command; None for silence.
    """
    service = prepare(model, name, namespace=namespace, access=access)
    if show is not None:
        show(service.text)
    running = service.start(timeout=timeout)
    if show is not None:
        show(running.curl or f"{running.name} answers at {running.url}")
    return running


@dataclass(frozen=True)
class Prepared:
    """A service that is written and not applied yet.

    Attributes:
        manifest: the InferenceService; `text` is its YAML.
    """

    manifest: dict[str, Any]
    text: str
    access: Access = field(repr=False)

    def start(
        self,
        *,
        timeout: float = 120.0,
        progress: Callable[[Progress, Object], None] | None = None,
    ) -> RunningModel:
        """Apply it and wait until it is Ready."""
        return blocking(self._start(timeout, progress))

    async def _start(
        self, timeout: float, progress: Callable[[Progress, Object], None] | None
    ) -> RunningModel:
        metadata = self.manifest["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        async with ControlClient(self.access, warn=print_warning) as client:
            await client.apply(self.manifest, where=name)
            service = await client.wait_ready(name, namespace, timeout=timeout, progress=progress)
        target = Target.of(service)
        async with InferenceClient(target) as inference:
            curl = curl_command(target, await inference.inputs())
        return RunningModel(name, namespace, target.url, curl, self.text, self.access)


def prepare(
    model: Any, name: str = "", *, namespace: str | None = None, access: Access | None = None
) -> Prepared:
    """Find out what a model is, save it where it is an object, and write its InferenceService."""
    chosen = access or discover()
    _require_local(chosen)
    found, default_name = _materialise(model, chosen, name)
    manifest = make_manifest(found, name or default_name, namespace or chosen.namespace)
    return Prepared(manifest, dump([manifest]), chosen)


def make_manifest(found: FoundModel, name: str, namespace: str) -> dict[str, Any]:
    """The InferenceService that serves a model."""
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": found.format},
                    "storageUri": f"file://{found.folder}",
                }
            }
        },
    }


def service_name(text: str) -> str:
    """A valid InferenceService name made from a file's or a class' name."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", text).lower()
    name = re.sub(r"[^a-z0-9]+", "-", words).strip("-")
    return (name if name[:1].isalpha() else f"model-{name}".strip("-"))[:40].strip("-")


def curl_command(target: Target, inputs: list[dict[str, Any]], model: str = "") -> str:
    """A command that sends one row of the model's own shape; empty when it declares no inputs."""
    tensors = sample_inputs(inputs)
    if not tensors:
        return ""
    body = json.dumps({"inputs": tensors})
    path = f"/v2/models/{model or target.model}/infer"
    host = f" -H 'Host: {target.host}'" if target.host and "/serving/" not in target.url else ""
    quoted = body.replace("'", "'\\''")
    return (
        f"curl {target.url}{path}{host} \\\n  -H 'Content-Type: application/json' \\\n"
        f"  -d '{quoted}'"
    )


def _require_local(access: Access) -> None:
    """A model on this machine's disk can be read by a Kedge on this machine only."""
    host = urlsplit(access.server).hostname or ""
    if not access.local and host not in ("localhost", "::1") and not host.startswith("127."):
        raise ModelError(
            f"The model is on this machine, and {access.server} is not: its pods cannot read it.",
            fix="Upload the model and apply an InferenceService with its storageUri.",
        )


def _materialise(model: Any, access: Access, name: str) -> tuple[FoundModel, str]:
    """The model on disk, and a name for its service."""
    if not isinstance(model, str | Path):
        return _save_by_content(model, access, name or service_name(type(model).__name__))
    path = Path(model).expanduser()
    if path.suffix == ".py":
        default = service_name(path.stem)
        return _save_by_content(_object_of_script(path), access, name or default)
    found = find_model(path)
    generic = found.file.stem in ("model", "saved_model")
    return found, service_name(found.folder.name if generic else found.file.stem)


def _object_of_script(path: Path) -> Any:
    """The model that a Python file defines: its global `model`, or the one that can predict."""
    if not path.exists():
        raise ModelError(f"{path} does not exist.", fix="Name a model, its folder or a script.")
    defined = runpy.run_path(str(path), run_name="__kedge_run__")
    if "model" in defined:
        return defined["model"]
    able = {
        key: value
        for key, value in defined.items()
        if not isinstance(value, type) and callable(getattr(value, "predict", None))
    }
    if len(able) == 1:
        return next(iter(able.values()))
    told = f"several ({', '.join(able)})" if able else "no"
    raise ModelError(
        f"{path} defines {told} objects with `predict` and none called `model`.",
        fix="Call the one to be served `model`.",
    )


def _save_by_content(model: Any, access: Access, name: str) -> tuple[FoundModel, str]:
    """Save into `models/{name}/{digest}` of the data directory, once for the same bytes."""
    beside = Path(access.source).parent
    data_dir = beside if running_pid(beside) is not None else default_data_dir()
    parent = data_dir / "models" / name
    parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".saving-", dir=parent))
    try:
        saved = save(model, staging)
        digest = hashlib.sha256(saved.file.read_bytes()).hexdigest()[:12]
        folder = parent / digest
        if not folder.exists():
            staging.chmod(0o755)
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return FoundModel(saved.format, folder, folder / saved.file.name, saved.about), name
