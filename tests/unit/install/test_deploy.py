"""`deploy/` is what the source renders, and every way to install gives the same objects."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.install.chart import render_chart

from kedge.install.kustomize import OVERLAYS
from kedge.install.render import render
from kedge.install.values import Gateway, Ingress, Values
from kedge.install.write import make_files

DEPLOY = Path(__file__).parents[3] / "deploy"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CHART = DEPLOY / "helm" / "kedge"


def identity(obj: dict[str, Any]) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace", ""), metadata["name"]


def by_identity(objects: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    found = {identity(obj): obj for obj in objects}
    assert len(found) == len(objects), "two objects of the same name"
    return found


def loaded(text: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    return by_identity([obj for obj in yaml.load_all(text, LOADER) if obj])


def test_deploy_is_what_the_source_renders_golden() -> None:
    files = make_files()
    on_disk = {
        str(file.relative_to(DEPLOY)): file.read_text()
        for file in DEPLOY.rglob("*")
        if file.is_file()
    }
    assert on_disk == files, "run `python -m kedge.install.write deploy`"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomizations_are_the_objects_of_install(overlay: str) -> None:
    folder = DEPLOY / "kustomize" / "overlays" / overlay
    resources = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert resources == ["../../base", "objects.yaml"]
    base = DEPLOY / "kustomize" / "base"
    texts = [base / name for name in yaml.safe_load((base / "kustomization.yaml").read_text())[
        "resources"
    ]]  # fmt: skip
    built = "\n".join(path.read_text() for path in [*texts, folder / "objects.yaml"])
    assert loaded(built) == by_identity(render(OVERLAYS[overlay]))


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_kubectl_builds_the_objects_of_install(overlay: str) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kustomize" / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = by_identity(render(OVERLAYS[overlay]))
    for obj in wanted.values():
        if not obj["metadata"].get("annotations", True):
            del obj["metadata"]["annotations"]  # Kustomize leaves empty ones out.
    assert loaded(built.stdout) == wanted


CHOICES = {
    "defaults": Values(),
    "one namespace": Values(namespace="ml", watch_namespace="models"),
    "chosen": Values(
        namespace="ml",
        image_prefix="registry.example/kedge/",
        image_tag="1.2.3",
        image_pull_secrets=[{"name": "pull"}],
        ingress=Ingress(domain="models.example", url_scheme="https"),
        gateway=Gateway(
            tls_secret="wildcard",
            service_annotations={"cloud": "internal"},
            node_selector={"pool": "edge"},
        ),
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_the_chart_gives_the_objects_of_install(choice: str) -> None:
    import msgspec

    values = CHOICES[choice]
    given = msgspec.to_builtins(values)
    namespace = given.pop("namespace")
    assert _without_labels(by_identity(render_chart(CHART, namespace, **given))) == _without_labels(
        by_identity(render(values))
    )


def _without_labels(objects: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """A chart's definitions cannot name their release's namespace."""
    for (kind, _, _), obj in objects.items():
        if kind == "CustomResourceDefinition":
            del obj["metadata"]["labels"]
    return objects


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.skipif(shutil.which("helm") is None, reason="there is no helm")
def test_helm_gives_the_objects_of_install(choice: str, tmp_path: Path) -> None:
    import msgspec

    values = CHOICES[choice]
    given = msgspec.to_builtins(values)
    namespace = given.pop("namespace")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(given))
    built = subprocess.run(
        ["helm", "template", "kedge", str(CHART), "--include-crds", "--namespace", namespace,
         "--values", str(tmp_path / "values.yaml")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert _without_labels(loaded(built.stdout)) == _without_labels(by_identity(render(values)))
