"""Addresses, GPUs, logs, control groups, rewriting, unsupported fields, quantities."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kedge.cluster.local.node import logs
from kedge.cluster.local.node.addresses import Addresses
from kedge.cluster.local.node.cgroups import Cgroups, Limits
from kedge.cluster.local.node.resources import Gpus, limits_of
from kedge.cluster.local.node.unsupported import is_hardening, unsupported_fields
from kedge.cluster.local.node.volumes import rewrite
from kedge.lib.quantity import format_bytes, parse_quantity


def test_addresses_are_unique_and_kept(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path)
    taken = {addresses.take(str(number)) for number in range(500)}
    assert len(taken) == 500
    assert all(a.startswith("127.") and not a.startswith("127.0.") for a in taken)
    kept = addresses.keep("old", "127.99.1.1")
    assert kept == "127.99.1.1"
    first = addresses.take("x")
    addresses.release("x")
    assert first not in taken


def test_gpus() -> None:
    gpus = Gpus(["0", "1", "2"])
    assert gpus.take("a", "c", 2) == ("0", "1")
    assert gpus.take("a", "c", 2) == ("0", "1")
    assert gpus.take("b", "c", 2) is None
    gpus.release("a")
    assert gpus.take("b", "c", 2) == ("0", "1")


def test_limits() -> None:
    given = {"limits": {"cpu": "1500m", "memory": "1Gi"}, "requests": {"cpu": "250m"}}
    limits = limits_of({"resources": given})
    assert limits == Limits(memory=1 << 30, cpu=1.5, cpu_request=0.25)
    assert limits.shares == 256
    assert limits_of({}) == Limits()


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    assert logs.tail(log) == ""
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert logs.tail(log, lines=2) == "line 998\nline 999"
    assert logs.tail(log, limit=30).startswith("line 99")


def test_a_log_is_copied_and_cut(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    with log.open("ab") as writer:
        for round in ("first", "second", "third"):
            writer.write(round.encode() * 10)
            writer.flush()
            assert logs.rotate(log, limit=20, keep=2)
        writer.write(b"now")
    assert log.read_text() == "now"
    assert (tmp_path / "0.log.1").read_text() == "third" * 10
    assert (tmp_path / "0.log.2").read_text() == "second" * 10
    assert not (tmp_path / "0.log.3").exists()
    assert not logs.rotate(log, limit=20, keep=2)


def test_logs_of_old_runs_go(tmp_path: Path) -> None:
    for name in ("0.log", "0.log.1", "1.log", "2.log", "10.log"):
        (tmp_path / name).touch()
    logs.remove_old_runs(tmp_path, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"2.log", "10.log"}


def fake_proc(folder: Path, mounts: str, groups: str) -> Path:
    (folder / "self").mkdir(parents=True)
    (folder / "self" / "mountinfo").write_text(mounts)
    (folder / "self" / "cgroup").write_text(groups)
    return folder


def test_version_2_goes_up_to_a_group_that_hands_its_controllers_on(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    shell = root / "user" / "app" / "shell"
    shell.mkdir(parents=True)
    (shell / "cgroup.subtree_control").write_text("")
    (root / "user" / "app" / "cgroup.subtree_control").write_text("memory pids")
    base_control = None
    proc = fake_proc(
        tmp_path / "proc", f"30 1 0:26 / {root} rw - cgroup2 cgroup2 rw\n", "0::/user/app/shell\n"
    )
    # A plain folder remembers only the last line written to it: our folder has no memory then.
    found = Cgroups.find(tmp_path, proc)
    assert found == Cgroups(None, None)
    (made,) = [p for p in (root / "user" / "app").iterdir() if p.name.startswith("kedge-")]
    base_control = (made / "cgroup.subtree_control").read_text()
    assert base_control == "+memory"


def test_nothing_is_limited_where_nothing_can_be(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path / "proc", "", "")
    nothing = Cgroups.find(tmp_path, proc)
    assert not nothing.limits_memory()
    assert nothing.make("c", Limits(memory=1)) == []
    assert nothing.oom_kills("c") == 0
    assert nothing.peak("c") is None


MOUNTS = [{"target": "/mnt/models", "source": "/host/m"}, {"target": "/mnt", "source": "/host/x"}]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("--model_dir=/mnt/models", "--model_dir=/host/m"),
        ("/mnt/models/a:/mnt/b", "/host/m/a:/host/x/b"),
        ("/mnt/models2", "/host/x/models2"),
        ("/other/mnt/models", "/other/mnt/models"),
        ("/mnt-x", "/mnt-x"),
    ],
)
def test_rewriting(text: str, result: str) -> None:
    assert rewrite(text, MOUNTS) == result


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"dnsPolicy": "ClusterFirst", "schedulerName": "x", "securityContext": {}}, []),
        ({"hostAliases": [{"ip": "1.1.1.1"}]}, ["hostAliases"]),
        ({"runtimeClassName": "gvisor"}, ["runtimeClassName"]),
        ({"securityContext": {"sysctls": [{"name": "x"}]}}, ["securityContext.sysctls"]),
        ({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}]},
         ["volumes[v].emptyDir.sizeLimit"]),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}]},
         ["volumes[v].projected.sources.serviceAccountToken"]),
        ({"containers": [{"name": "c", "stdin": True, "volumeMounts": [
            {"name": "v", "mountPath": "/x", "mountPropagation": "Bidirectional"}]}]},
         ["containers[c].stdin", "containers[c].volumeMounts[v].mountPropagation"]),
        ({"containers": [{"name": "c", "resources": {"limits": {"cpu": 1, "x.dev/fpga": 1}}}]},
         ["containers[c].resources.limits.x.dev/fpga"]),
        ({"containers": [{"name": "c", "securityContext": {
            "privileged": True, "allowPrivilegeEscalation": False}}]},
         ["containers[c].securityContext.privileged"]),
    ],
)  # fmt: skip
def test_what_is_not_honoured(spec: dict[str, Any], fields: list[str]) -> None:
    assert unsupported_fields({"spec": spec}) == fields


def test_what_only_takes_rights_away_is_told_apart() -> None:
    assert is_hardening("containers[a].securityContext.runAsNonRoot")
    assert not is_hardening("containers[a].securityContext.capabilities.add")
    assert not is_hardening("volumes[a].emptyDir.sizeLimit")


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("2Gi", str(2 << 30)), ("1e3", "1000"), ("5k", "5000"), (4, "4"),
     ("1E", "1000000000000000000"), ("0.5", "0.5")],
)  # fmt: skip
def test_quantities(text: str | int, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "x", "Gi", "1 Gi x"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


def test_sizes_for_people() -> None:
    assert [format_bytes(n) for n in (5, 2 << 30, 123456789)] == ["5B", "2Gi", "118Mi"]
