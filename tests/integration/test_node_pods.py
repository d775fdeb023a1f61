"""Pods as the node agent runs them, with real processes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.node_world import World, container, is_ready, until

from kedge.api.scheme import CONFIG_MAP, NODE, PERSISTENT_VOLUME_CLAIM, POD, SECRET


async def test_a_pod_runs_and_is_ready(world: World) -> None:
    await world.run_pod("one", {"name": "c", "args": ["-c", "echo hello; sleep 60"]})
    pod = await world.wait_for("one", is_ready)
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"].startswith("127.")
    assert container(pod)["state"]["running"]["startedAt"]
    assert await world.wait_log(pod, "c", 1) == ["hello"]


async def test_a_container_inherits_no_files(world: World) -> None:
    args = ["-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"]
    await world.run_pod("one", {"name": "c", "image": "test/python", "args": args})
    pod = await world.wait_for("one", lambda p: container(p)["lastState"].get("terminated"))
    assert await world.wait_log(pod, "c", 1) == ["[0, 1, 2]"]


async def test_each_pod_has_its_own_address(world: World) -> None:
    for name in ("one", "two"):
        await world.run_pod(name, {"name": "c", "args": ["-c", "sleep 60"]})
    addresses = {(await world.wait_for(n, is_ready))["status"]["podIP"] for n in ("one", "two")}
    assert len(addresses) == 2


async def test_the_node_is_registered(world: World) -> None:
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 60"]})
    await world.wait_for("one", is_ready)
    node = await world.cluster.get(NODE, "here")
    assert node["status"]["capacity"] == {"cpu": "2", "memory": str(1 << 30), "pods": "1000"}
    assert node["status"]["conditions"][0]["status"] == "True"


async def test_init_containers_run_in_order_and_share_a_volume(world: World) -> None:
    mount = [{"name": "work", "mountPath": "/mnt/models"}]
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", "cat /mnt/models/x; sleep 60"], "volumeMounts": mount},
        initContainers=[
            {"name": n, "image": "test/sh", "args": ["-c", f"echo {n} >> /mnt/models/x"],
             "volumeMounts": mount}
            for n in ("first", "second")
        ],
        volumes=[{"name": "work", "emptyDir": {}}],
    )  # fmt: skip
    pod = await world.wait_for("one", is_ready)
    assert await world.wait_log(pod, "c", 2) == ["first", "second"]
    assert container(pod, "first")["state"]["terminated"]["reason"] == "Completed"
    # The mount point was made inside the pod alone.
    assert not Path("/mnt/models").exists()


async def test_a_failing_init_container_holds_the_pod(world: World) -> None:
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", "sleep 60"]},
        initContainers=[
            {"name": "init", "image": "test/sh", "args": ["-c", "echo no model >&2; exit 4"]}
        ],
    )
    pod = await world.wait_for("one", lambda p: container(p, "init")["restartCount"] >= 1)
    status = container(pod, "init")
    assert status["lastState"]["terminated"]["exitCode"] == 4
    assert status["lastState"]["terminated"]["message"] == "no model"
    assert pod["status"]["phase"] == "Pending"
    assert container(pod, "c")["state"]["waiting"]["reason"] == "PodInitializing"


async def test_a_failing_init_container_fails_a_pod_that_never_restarts(world: World) -> None:
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", "sleep 60"]},
        restartPolicy="Never",
        initContainers=[{"name": "init", "image": "test/sh", "args": ["-c", "exit 4"]}],
    )
    await world.wait_for("one", lambda p: p["status"]["phase"] == "Failed")


async def test_a_sidecar_starts_first_and_ends_last(world: World) -> None:
    say = "trap 'echo side ends >> {0}; exit 0' TERM; echo side >> {0}; sleep 60 & wait"
    mount = [{"name": "work", "mountPath": "/mnt/shared"}]
    log = "/mnt/shared/log"
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", f"echo main >> {log}; sleep 0.2; echo main ends >> {log}"],
         "volumeMounts": mount},
        restartPolicy="Never",
        initContainers=[{"name": "side", "image": "test/sh", "restartPolicy": "Always",
                         "args": ["-c", say.format(log)], "volumeMounts": mount,
                         "startupProbe": {"exec": {"command": ["test", "-s", log]}}}],
        volumes=[{"name": "work", "emptyDir": {}}],
    )  # fmt: skip
    pod = await world.wait_for("one", lambda p: p["status"]["phase"] == "Succeeded")
    shared = world.folder / "pods" / pod["metadata"]["uid"] / "volumes" / "work" / "log"
    assert shared.read_text().splitlines() == ["side", "main", "main ends", "side ends"]


async def test_environment_from_everywhere(world: World) -> None:
    await world.cluster.create(
        CONFIG_MAP,
        {"metadata": {"name": "cm", "namespace": "default"}, "data": {"A": "1", "B": "2"}},
    )
    await world.cluster.create(
        SECRET,
        {"metadata": {"name": "s", "namespace": "default"}, "data": {"key": "aGlkZGVu"}},
    )
    env = [
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},
        {"name": "JOINED", "value": "$(A)-$(SECRET)-$(NOBODY)-$$(A)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory",
                                                          "divisor": "1Mi"}}},
    ]  # fmt: skip
    code = "import json,os; print(json.dumps(dict(os.environ)))"
    await world.run_pod(
        "one",
        {"name": "c", "image": "test/python", "args": ["-c", code], "env": env,
         "envFrom": [{"configMapRef": {"name": "cm"}}],
         "resources": {"limits": {"memory": "100Mi", "cpu": "1500m"}}},
        restartPolicy="Never",
    )  # fmt: skip
    pod = await world.wait_for("one", lambda p: p["status"]["phase"] == "Succeeded")
    seen = json.loads(world.log(pod, "c"))
    address = pod["status"]["podIP"]
    wanted = {
        "A": "1", "B": "2", "SECRET": "hidden", "JOINED": "1-hidden-$(NOBODY)-$(A)", "NAME": "one",
        "IP": address, "KEDGE_POD_IP": address, "KEDGE_BIND_ADDRESS": address, "MEM": "100",
        "OMP_NUM_THREADS": "2", "HOSTNAME": "one",
    }  # fmt: skip
    assert {name: seen.get(name) for name in wanted} == wanted


async def test_volumes_of_every_kind(world: World, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m").write_text("model\n")
    claim = {"metadata": {"name": "claim", "namespace": "default"}}
    await world.cluster.create(PERSISTENT_VOLUME_CLAIM, claim)
    meta = {"name": "cm", "namespace": "default"}
    await world.cluster.create(CONFIG_MAP, {"metadata": meta, "data": {"f": "text\n"}})
    look = """
        cat /etc/cfg/sub/g /mnt/models/m /labels/labels; echo
        echo x > /mnt/models/m || echo read-only
        echo kept > /claim/data; echo mem > /dev/shm/x; stat -f -c %T /dev/shm
        cat /single
    """
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", look], "volumeMounts": [
            {"name": "cfg", "mountPath": "/etc/cfg/sub"},
            {"name": "host", "mountPath": "/mnt/models", "readOnly": True},
            {"name": "claim", "mountPath": "/claim", "subPath": "a"},
            {"name": "mem", "mountPath": "/dev/shm"},
            {"name": "down", "mountPath": "/labels"},
            {"name": "all", "mountPath": "/single", "subPath": "f"},
        ]},
        restartPolicy="Never",
        volumes=[
            {"name": "cfg", "configMap": {"name": "cm", "items": [{"key": "f", "path": "g"}]}},
            {"name": "host", "hostPath": {"path": str(tmp_path / "models"), "type": "Directory"}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
            {"name": "down", "downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"name": "all", "projected": {"sources": [{"configMap": {"name": "cm"}}]}},
        ],
    )  # fmt: skip
    pod = await world.wait_for("one", lambda p: p["status"]["phase"] in ("Succeeded", "Failed"))
    assert world.log(pod, "c").splitlines()[:3] == ["text", "model", "one"]
    assert world.log(pod, "c").splitlines()[-3:] == ["read-only", "tmpfs", "text"]
    kept = world.settings.volumes_dir / "default" / "claim" / "a" / "data"
    assert kept.read_text() == "kept\n"
    assert (tmp_path / "models" / "m").read_text() == "model\n"


async def test_termination_message_of_the_container(world: World) -> None:
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", "echo why > $KEDGE_TERMINATION_LOG; echo noise; exit 1"]},
        restartPolicy="Never",
    )
    pod = await world.wait_for("one", lambda p: p["status"]["phase"] == "Failed")
    ended = container(pod)["state"]["terminated"]
    assert (ended["message"], ended["exitCode"], ended["reason"]) == ("why", 1, "Error")


async def test_on_failure_restarts_until_it_succeeds(world: World) -> None:
    once = "test -e /mnt/w/done && exit 0; touch /mnt/w/done; exit 3"
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", once],
         "volumeMounts": [{"name": "w", "mountPath": "/mnt/w"}]},
        restartPolicy="OnFailure",
        volumes=[{"name": "w", "emptyDir": {}}],
    )  # fmt: skip
    pod = await world.wait_for("one", lambda p: p["status"]["phase"] == "Succeeded")
    assert container(pod)["restartCount"] == 1
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 3


async def test_active_deadline(world: World) -> None:
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 60"]}, activeDeadlineSeconds=1)
    pod = await world.wait_for("one", lambda p: p["status"]["phase"] == "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"


async def test_ending_is_asked_for_then_forced(world: World, tmp_path: Path) -> None:
    note = tmp_path / "note"
    polite = f"trap 'echo asked >> {note}; exit 0' TERM; sleep 60 & wait"
    stubborn = "trap '' TERM; while true; do sleep 0.1; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", f"echo hook >> {note}"]}}}
    await world.run_pod("one", {"name": "c", "args": ["-c", polite], "lifecycle": hook})
    await world.run_pod(
        "two", {"name": "c", "args": ["-c", stubborn]}, terminationGracePeriodSeconds=1
    )
    for name in ("one", "two"):
        await world.wait_for(name, is_ready)
        await world.delete_pod(name)
    await world.wait_gone("one", 1.5)
    assert note.read_text() == "hook\nasked\n"
    await world.wait_gone("two", 4)
    await until(lambda: not list(world.settings.pods_dir.iterdir()))


async def test_a_pod_is_drained_before_it_is_asked_to_end(tmp_path: Path) -> None:
    asked: list[str] = []

    class Drains:
        async def drained(self, address: str) -> None:
            pod = await world.cluster.get(POD, "one", "default")
            assert container(pod)["state"].get("running")
            asked.append(address)

    world = World(tmp_path)
    await world.start(drains=Drains())
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 60"]})
    pod = await world.wait_for("one", is_ready)
    await world.delete_pod("one")
    await world.wait_gone("one")
    assert asked == [pod["status"]["podIP"]]
    await world.close()


async def test_gpus_are_handed_out_one_by_one(tmp_path: Path) -> None:
    from kedge.settings.node import Capacity

    world = World(tmp_path, capacity=Capacity(cpu=2, memory=1 << 30, gpus=("0", "1")))
    await world.start()
    show = {"name": "c", "args": ["-c", "echo $CUDA_VISIBLE_DEVICES; sleep 60"]}
    one = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    await world.run_pod("none", dict(show))
    seen = set()
    for name in ("a", "b"):
        await world.run_pod(name, {**show, **one})
        seen |= set(await world.wait_log(await world.wait_for(name, is_ready), "c", 1))
    assert seen == {"0", "1"}
    assert await world.wait_log(await world.wait_for("none", is_ready), "c", 1) == [""]
    await world.run_pod("c", {**show, **one})
    pod = await world.wait_for("c", lambda p: p["status"]["phase"] == "Failed")
    assert pod["status"]["reason"] == "UnexpectedAdmissionError"
    await world.close()


async def test_what_is_not_honoured_is_named_once(world: World) -> None:
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", "sleep 60"], "tty": True},
        hostAliases=[{"ip": "1.2.3.4", "hostnames": ["x"]}],
        ephemeralContainers=[{"name": "debug", "image": "x"}],
    )
    await world.wait_for("one", is_ready)
    told = await world.events("UnsupportedFields")
    assert len(told) == 1
    for field in ("hostAliases", "ephemeralContainers", "containers[c].tty"):
        assert field in told[0]
