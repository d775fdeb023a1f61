"""What the node agent does when something dies, is missing, or takes too much."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.integration.node_world import World, container, is_ready, until
from tests.ports import free_port

from kedge.api.scheme import POD
from kedge.cluster.errors import Unavailable
from kedge.cluster.local.node import ownfaults, processes
from kedge.cluster.local.node.cgroups import Cgroups
from kedge.cluster.local.node.container import ContainerLife
from kedge.cluster.local.node.health import Health, Verdict
from kedge.cluster.local.node.pod import PodLife
from kedge.lib.backoff import Backoff

# Forks twice, so that it is nobody's child and in a session of its own, and says who it is.
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.environ.clear()
        time.sleep(600)
    os._exit(0)
os.wait()
print("away", flush=True)
time.sleep(600)
"""


def tagged(tag: str) -> list[int]:
    """Processes with this word in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if tag.encode() in words and b"pytest" not in words:
                found.append(int(name))
    return found


@pytest.mark.parametrize("namespaces", ["auto", "user", "none"])
async def test_nothing_outlives_the_supervisor(tmp_path: Path, namespaces: str) -> None:
    world = World(tmp_path, namespaces=namespaces)
    await world.start()
    tag = f"tag-{os.getpid()}-{namespaces}"
    await world.run_pod("one", {"name": "c", "image": "test/python", "args": ["-c", DAEMON, tag]})
    pod = await world.wait_for("one", is_ready)
    await world.wait_log(pod, "c", 1)
    assert len(tagged(tag)) == 2
    # First the agent goes, as after a kill: the pod stays.
    await world.stop()
    assert len(tagged(tag)) == 2
    world.end_life()
    await until(lambda: not tagged(tag))
    await world.close()


@pytest.mark.parametrize("namespaces", ["auto", "none"])
async def test_a_container_ends_with_its_first_process(tmp_path: Path, namespaces: str) -> None:
    world = World(tmp_path, namespaces=namespaces)
    await world.start()
    tag = f"ended-{os.getpid()}-{namespaces}"
    code = DAEMON.replace('print("away", flush=True)\ntime.sleep(600)', "")
    await world.run_pod(
        "one",
        {"name": "c", "image": "test/python", "args": ["-c", code, tag]},
        restartPolicy="Never",
    )
    await world.wait_for("one", lambda p: p["status"]["phase"] == "Succeeded")
    await until(lambda: not tagged(tag))
    await world.close()


async def test_a_new_agent_adopts_running_pods(world: World) -> None:
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    await world.run_pod("stays", {"name": "c", "args": ["-c", "sleep 60"], "readinessProbe": probe})
    await world.run_pod("ends", {"name": "c", "args": ["-c", "sleep 0.5; exit 7"]})
    stays = await world.wait_for("stays", is_ready)
    await world.wait_for("ends", lambda p: container(p)["state"].get("running"))
    await world.stop()
    await asyncio.sleep(0.8)
    await world.start()
    # The exit that happened meanwhile is told, and the container started again.
    ends = await world.wait_for("ends", lambda p: container(p)["restartCount"] >= 1)
    assert container(ends)["lastState"]["terminated"]["exitCode"] == 7
    again = await world.wait_for("stays", is_ready)
    assert container(again)["restartCount"] == 0
    assert container(again)["state"] == container(stays)["state"]
    assert again["status"]["podIP"] == stays["status"]["podIP"]
    # Nor did readiness flicker, and commands still reach the container.
    states = [is_ready(p) for _, p in world.history
              if p["metadata"]["name"] == "stays" and p.get("status")]  # fmt: skip
    assert states.count(False) <= states.index(True)
    await world.delete_pod("stays")
    await world.wait_gone("stays")


async def test_a_new_agent_ends_pods_that_are_no_more(world: World) -> None:
    tag = f"stray-{os.getpid()}"
    args = ["-c", "import time; time.sleep(600)", tag]
    await world.run_pod("one", {"name": "c", "image": "test/python", "args": args})
    pod = await world.wait_for("one", is_ready)
    await world.stop()
    await world.delete_pod("one", grace=0)
    assert tagged(tag)
    await world.start()
    await until(lambda: not tagged(tag))
    await until(lambda: not (world.settings.pods_dir / pod["metadata"]["uid"]).exists())


async def test_a_pod_deleted_meanwhile_is_asked_to_end(world: World, tmp_path: Path) -> None:
    note = tmp_path / "note"
    polite = f"trap 'echo asked >> {note}; exit 0' TERM; sleep 60 & wait"
    await world.run_pod("one", {"name": "c", "args": ["-c", polite]})
    await world.wait_for("one", is_ready)
    await world.stop()
    await world.delete_pod("one")
    await world.start()
    await world.wait_gone("one")
    assert note.read_text() == "asked\n"


async def test_pods_come_back_after_everything_died(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.start()
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 600"]})
    before = await world.wait_for("one", is_ready)
    await world.stop()
    world.end_life()
    await until(lambda: not list(world.settings.runtime_dir.glob("*.sock")))
    os.close(world.life_read)

    world.life_read, world.life_write = os.pipe()
    await world.start()
    after = await world.wait_for("one", lambda p: is_ready(p) and container(p)["restartCount"] == 1)
    assert container(after)["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert after["status"]["podIP"] == before["status"]["podIP"]
    await world.close()


async def test_a_killed_shim_is_noticed(world: World) -> None:
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 600"]})
    await world.wait_for("one", is_ready)
    shims = tagged("shim.py")
    sockets = str(world.settings.runtime_dir)
    ours = [p for p in shims if sockets in _unix_sockets(p)]
    os.kill(ours[0], signal.SIGKILL)
    pod = await world.wait_for("one", lambda p: is_ready(p) and container(p)["restartCount"] == 1)
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 137


async def test_a_killed_template_is_started_again(world: World) -> None:
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 600"]})
    await world.wait_for("one", is_ready)
    for pid in processes.descendants(os.getpid())[1:]:
        is_pod = Path(f"/proc/{pid}/comm").read_text() == "kedge-pod\n"
        if b"shim.py" in Path(f"/proc/{pid}/cmdline").read_bytes() and not is_pod:
            os.kill(pid, signal.SIGKILL)
    await world.run_pod("two", {"name": "c", "args": ["-c", "sleep 600"]})
    await world.wait_for("two", is_ready)
    assert container(await world.wait_for("one", is_ready))["restartCount"] == 0


def _unix_sockets(pid: int) -> str:
    """The paths of the unix sockets that a process holds."""
    held = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            held.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            continue
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return " ".join(f[7] for f in lines if len(f) > 7 and f"socket:[{f[6]}]" in held)


async def test_crash_loop(world: World) -> None:
    await world.run_pod("one", {"name": "c", "args": ["-c", "echo broken >&2; exit 5"]})
    pod = await world.wait_for("one", lambda p: container(p)["restartCount"] >= 2)
    status = container(pod)
    assert status["lastState"]["terminated"]["exitCode"] == 5
    assert status["lastState"]["terminated"]["message"] == "broken"
    pod = await world.wait_for("one", lambda p: container(p)["state"].get("waiting"))
    assert container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert pod["status"]["phase"] == "Running"
    assert not is_ready(pod)


GREEDY = "x = []\nwhile True: x.append(bytearray(b'1' * (4 << 20)))"


@pytest.mark.parametrize("limited_by", ["kernel", "sampling"])
async def test_out_of_memory(
    tmp_path: Path, limited_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limited_by == "sampling":
        monkeypatch.setattr(Cgroups, "find", classmethod(lambda cls, *_: cls()))
    elif not Cgroups.find(tmp_path).limits_memory():
        pytest.skip("no memory control group can be made here")
    else:
        Cgroups.find(tmp_path)
    world = World(tmp_path)
    await world.start()
    slow = GREEDY.replace("x.append", "__import__('time').sleep(0.02); x.append")
    await world.run_pod(
        "one",
        {"name": "c", "image": "test/python",
         "args": ["-c", GREEDY if limited_by == "kernel" else slow],
         "resources": {"limits": {"memory": "60Mi"}}},
        restartPolicy="Never",
    )  # fmt: skip
    pod = await world.wait_for("one", lambda p: p["status"]["phase"] == "Failed")
    ended = container(pod)["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert "limit 60Mi" in ended["message"]
    assert re.search(r"peak (6|7|8|9|1\d)\d", ended["message"])
    await world.close()


async def test_an_image_that_nothing_maps_to(world: World) -> None:
    await world.run_pod("one", {"name": "c", "image": "acme/churn:v1", "command": ["sleep", "60"]})
    pod = await world.wait_for("one", lambda p: container(p)["state"]["waiting"]["message"])
    waiting = container(pod)["state"]["waiting"]
    assert waiting["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert "acme/churn:v1" in waiting["message"]
    assert "images.yaml" in waiting["message"]
    # The fix, carried out: the pod heals by itself.
    world.settings.images_file.write_text("images: [{pattern: 'acme/churn*', command: [sh]}]")
    await world.wait_for("one", is_ready)


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"command": ["no-such-program"]}, "CreateContainerError", "no-such-program"),
        ({"args": ["-c", "true"], "workingDir": "/no/such"}, "CreateContainerError", "/no/such"),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
         "CreateContainerConfigError", "secret 's' not found"),
    ],
)  # fmt: skip
async def test_a_container_that_cannot_be_started(
    world: World, spec: dict[str, object], reason: str, words: str
) -> None:
    await world.run_pod("one", {"name": "c", **spec})
    pod = await world.wait_for("one", lambda p: container(p)["state"]["waiting"]["message"])
    assert container(pod)["state"]["waiting"]["reason"] == reason
    assert words in container(pod)["state"]["waiting"]["message"]
    await world.delete_pod("one")
    await world.wait_gone("one")


async def test_a_missing_folder_is_waited_for(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", "sleep 60"],
         "volumeMounts": [{"name": "m", "mountPath": "/mnt/models"}]},
        volumes=[{"name": "m", "hostPath": {"path": str(folder)}}],
    )  # fmt: skip
    pod = await world.wait_for(
        "one", lambda p: "hostPath" in container(p)["state"]["waiting"]["message"]
    )
    assert str(folder) in container(pod)["state"]["waiting"]["message"]
    assert await world.events("FailedMount")
    folder.mkdir()
    await world.wait_for("one", is_ready)


LISTEN = """
import socket, sys, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen()
print(s.getsockname()[0], flush=True)
time.sleep(600)
"""


async def test_a_server_on_every_address_is_given_its_pods(world: World) -> None:
    port = str(free_port())
    for name in ("one", "two"):
        await world.run_pod(
            name,
            {"name": "c", "image": "test/python", "args": ["-c", LISTEN, "0.0.0.0", port],
             "readinessProbe": {"tcpSocket": {"port": port}}},
        )  # fmt: skip
    for name in ("one", "two"):
        pod = await world.wait_for(name, is_ready)
        assert await world.wait_log(pod, "c", 1) == [pod["status"]["podIP"]]


async def test_a_server_on_every_address_is_a_named_error(world: World) -> None:
    port = free_port()
    await world.run_pod(
        "one",
        {"name": "c", "image": "test/python", "args": ["-c", LISTEN, "0.0.0.0", str(port)],
         "ports": [{"containerPort": port}],
         "env": [{"name": "KEDGE_BIND_ADDRESS", "value": "switched off"}]},
        restartPolicy="Never",
    )  # fmt: skip
    pod = await world.wait_for("one", lambda p: p["status"]["phase"] == "Failed")
    ended = container(pod)["state"]["terminated"]
    assert ended["reason"] == "WildcardListener"
    assert "$KEDGE_POD_IP" in ended["message"]


async def test_a_port_in_use_is_waited_for(world: World) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        await world.run_pod(
            "one",
            {"name": "c", "args": ["-c", "sleep 60"], "ports": [{"containerPort": port}]},
        )
        pod = await world.wait_for("one", lambda p: container(p)["state"]["waiting"]["message"])
        waiting = container(pod)["state"]["waiting"]
        assert waiting["reason"] == "PortInUse"
        assert f"held by pid {os.getpid()}" in waiting["message"]
    await world.wait_for("one", is_ready)


async def test_a_port_in_use_is_told_from_the_log(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        await world.run_pod(
            "one",
            {"name": "c", "image": "test/python", "args": ["-c", LISTEN, "127.0.0.1", port]},
            restartPolicy="Never",
        )
        pod = await world.wait_for("one", lambda p: p["status"]["phase"] == "Failed")
    assert container(pod)["state"]["terminated"]["reason"] == "PortInUse"


async def test_an_api_that_is_away_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 0.2; exit 1"]})
    patch = world.cluster.patch
    refused = 0

    async def away(*args: object, **kwargs: object) -> dict[str, object]:
        nonlocal refused
        refused += 1
        raise Unavailable("away")

    monkeypatch.setattr(world.cluster, "patch", away)
    await until(lambda: refused > 3)
    monkeypatch.setattr(world.cluster, "patch", patch)
    await world.wait_for("one", lambda p: container(p)["restartCount"] >= 1)


async def test_a_full_disk_is_told_and_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text
    full = True

    def write_text(path: Path, *args: object, **kwargs: object) -> int:
        if full and path.name == "pod.json.new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, *args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(Path, "write_text", write_text)
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 60"]})
    pod = await world.wait_for("one", lambda p: container(p)["state"]["waiting"]["message"])
    assert "free space" in container(pod)["state"]["waiting"]["message"]
    full = False
    await world.wait_for("one", is_ready)


async def test_without_namespaces_mount_paths_are_rewritten(tmp_path: Path) -> None:
    world = World(tmp_path, namespaces="none")
    await world.start()
    await world.run_pod(
        "one",
        {"name": "c", "args": ["-c", "ls /mnt/models/; cat $MODEL; sleep 60"],
         "env": [{"name": "MODEL", "value": "/mnt/models/f"}],
         "volumeMounts": [{"name": "m", "mountPath": "/mnt/models"}]},
        volumes=[{"name": "m", "hostPath": {"path": str(tmp_path / "m"),
                                            "type": "DirectoryOrCreate"}}],
    )  # fmt: skip
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "f").write_text("here\n")
    pod = await world.wait_for("one", is_ready)
    assert (await world.wait_log(pod, "c", 2))[-2:] == ["f", "here"]
    assert await world.events("NoMountNamespace")
    await world.close()


AGENT = """
import asyncio, json, sys
from pathlib import Path
from tests.integration.node_world import World, is_ready

async def main():
    world = World(Path(sys.argv[1]), life=(int(sys.argv[2]), -1))
    await world.start()
    await world.run_pod("one", {"name": "c", "args": ["-c", "sleep 600"]})
    print(json.dumps(await world.wait_for("one", is_ready)), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_kill_9_of_the_agent_process(tmp_path: Path) -> None:
    life = os.pipe()
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AGENT, str(tmp_path), str(life[0]),
        pass_fds=[life[0]], stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"},
    )  # fmt: skip
    assert process.stdout is not None
    before = json.loads(await process.stdout.readline())
    process.kill()
    await process.wait()

    world = World(tmp_path, life=life)
    await world.start()
    await world.run_pod("two", {"name": "c", "args": ["-c", "sleep 600"]})
    await world.wait_for("two", is_ready)
    after = await world.cluster.get(POD, "one", "default")
    assert container(after)["restartCount"] == 0
    assert container(after)["state"] == container(before)["state"]
    # It is in the new agent's hands.
    await world.delete_pod("one")
    await world.wait_gone("one")
    await world.close()


async def fail(*_: Any) -> NoReturn:
    """By an error that nobody has foreseen."""
    raise ZeroDivisionError("division by zero")


OWN_FAULT = "ZeroDivisionError: division by zero. Fix: report this error of Kedge's"
SLEEPS = {"name": "c", "command": ["sleep", "600"]}


async def test_a_container_that_we_fail_to_watch_goes_on_if_we_recover(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, left = Health.watch, itertools.count(2, -1)

    async def fail_twice(health: Health, pid: int) -> Verdict:
        return await (watch(health, pid) if next(left) <= 0 else fail())

    monkeypatch.setattr(Health, "watch", fail_twice)
    await world.run_pod("p", SLEEPS)
    pod = await world.wait_for("p", is_ready)
    assert container(pod)["restartCount"] == 0
    (told,) = await world.events("NodeAgentError")
    assert "failed while watching container c: " + OWN_FAULT in told


async def test_a_container_that_we_fail_to_watch_for_long_is_told_and_started_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Health.watch
    monkeypatch.setattr(ownfaults, "RETRY", Backoff(initial=0.01, limit=0.01))
    monkeypatch.setattr(Health, "watch", fail)
    await world.run_pod("p", SLEEPS)
    pod = await world.wait_for("p", lambda pod: container(pod)["lastState"]["terminated"])
    last = container(pod)["lastState"]["terminated"]
    assert last["reason"] == "NodeAgentError"
    assert OWN_FAULT in last["message"]
    monkeypatch.setattr(Health, "watch", watch)
    await world.wait_for("p", is_ready)


async def test_a_pod_that_we_fail_to_run_is_told_and_runs_when_we_recover(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ContainerLife.run
    monkeypatch.setattr(ContainerLife, "run", fail)
    await world.run_pod("p", SLEEPS)
    pod = await world.wait_for("p", lambda pod: pod["status"]["reason"] == "NodeAgentError")
    assert OWN_FAULT in pod["status"]["message"]
    waiting = container(pod)["state"]["waiting"]
    assert waiting["reason"] == "NodeAgentError"
    assert OWN_FAULT in waiting["message"]
    assert await world.events("NodeAgentError")
    monkeypatch.setattr(ContainerLife, "run", start)
    pod = await world.wait_for("p", is_ready)
    assert not pod["status"].get("reason")
    assert not pod["status"].get("message")


async def test_a_pod_that_we_fail_to_end_is_told_and_ends_when_we_recover(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = PodLife._end
    await world.run_pod("p", SLEEPS)
    await world.wait_for("p", is_ready)
    monkeypatch.setattr(PodLife, "_end", fail)
    await world.delete_pod("p")
    pod = await world.wait_for("p", lambda pod: pod["status"]["reason"] == "NodeAgentError")
    assert "failed while taking care of the pod: " + OWN_FAULT in pod["status"]["message"]
    assert await world.events("NodeAgentError")
    monkeypatch.setattr(PodLife, "_end", end)
    await world.wait_gone("p")


async def test_a_status_that_we_fail_to_write_is_told_and_written_when_we_recover(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = PodLife._write_status
    monkeypatch.setattr(PodLife, "_write_status", fail)
    await world.run_pod("p", SLEEPS)
    told: list[str] = []
    while not told:
        told = await world.events("NodeAgentError")
        await asyncio.sleep(0.01)
    assert "failed while writing the pod's status: " + OWN_FAULT in told[0]
    monkeypatch.setattr(PodLife, "_write_status", write)
    await world.wait_for("p", is_ready)
