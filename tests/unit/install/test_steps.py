"""What speaks against an installation, and what a rollout is short of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kedge.cli.main import app
from kedge.install.installing import describe_plan
from kedge.install.probing import Facts, Owner, check
from kedge.install.target import InstallError
from kedge.install.waiting import describe_rollout

FINE = Facts(
    version="v1.36.2",
    gateway_api=Owner.NOBODY,
    serving=Owner.NOBODY,
    namespace="",
    namespace_is_ours=False,
    installed_in="",
    kserve="",
    storage_class="",
    nodes=1,
    gpus=0,
    kubeflow=False,
)


@pytest.mark.parametrize(
    "facts",
    [
        FINE,
        replace(FINE, version="v1.25.0-eks-1"),
        replace(FINE, version="v0.0.0-master+abc"),
        replace(FINE, installed_in="kedge"),
    ],
)
def test_what_is_no_obstacle(facts: Facts) -> None:
    check(facts, "kedge")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (replace(FINE, version="v1.24.17"), "needs 1.25 or newer"),
        (replace(FINE, version="v1.32.0+kedge"), "`kedge up`"),
        (replace(FINE, installed_in="ml"), "in namespace ml"),
        (replace(FINE, kserve="kserve/manager"), "KServe's controller"),
    ],
)
def test_what_speaks_against_it(facts: Facts, told: str) -> None:
    with pytest.raises(InstallError, match=told) as caught:
        check(facts, "kedge")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({}, "not seen"),
        ({"observedGeneration": 2}, "0 of 2 pods are ready"),
        ({"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 1}, "1 of 2"),
        (
            {"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 3, "replicas": 3},
            "old pods are ending",
        ),
        ({"observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2}, ""),
    ],
)
def test_what_a_rollout_is_short_of(status: dict[str, Any], told: str) -> None:
    deployment = {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}
    found = describe_rollout(deployment)
    assert told in found
    assert bool(found) == bool(told)


def test_the_plan_counts_what_there_is_to_be() -> None:
    wanted = [{"kind": "Service"}, {"kind": "Deployment"}, {"kind": "Service"}]
    assert describe_plan(wanted, "ml") == (
        "To be there for namespace ml: 3 objects (1 Deployment, 2 Service)."
    )


def test_a_dry_run_needs_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    done = CliRunner().invoke(app, ["install", "--dry-run", "-n", "ml", "--image-prefix", "a.b/"])
    assert done.exit_code == 0
    objects = list(yaml.load_all(done.stdout, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    assert objects[0]["metadata"]["name"] == "ml"
    assert "a.b/controller" in done.stdout


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    done = CliRunner().invoke(app, ["install"])
    assert done.exit_code == 4
    assert "/nowhere/config" in done.output
