"""Pods that are forked from a template, beside pods that are started by exec."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.node_world import World, container, is_ready, until

from kedge.cluster.base import Object
from kedge.cluster.local.node import processes
from kedge.settings.node import ImageRule

MODEL = """
import gc, json, os, random, resource, signal, sys, threading
import numpy
from kedge.server import Model

STATUS = ("SigBlk", "SigIgn", "SigCgt", "Threads", "NoNewPrivs")


def look():
    read = lambda name: open(f"/proc/self/{name}").read()
    status = dict(line.split(":", 1) for line in read("status").splitlines())
    main = sys.modules["__main__"]
    return {
        "environ": dict(os.environ),
        "shown environ": sorted(filter(None, read("environ").split("\\0"))),
        "cmdline": read("cmdline"),
        "comm": read("comm"),
        "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "cwd": os.getcwd(),
        "main": [main.__spec__.name, main.__file__], "flags": str(sys.flags),
        "files": {fd: os.path.realpath(f"/proc/self/fd/{fd}") for fd in "012"},
        "open": sorted(fd for fd in os.listdir("/proc/self/fd") if int(fd) < 200)[:-1],
        "status": {name: status[name].strip() for name in STATUS},
        "limits": read("limits"), "oom_score_adj": read("oom_score_adj"),
        "nice": os.nice(0), "umask": os.umask(0o022), "leader": os.getsid(0) == os.getpid(),
        "mounts": sorted(line.split()[4] for line in read("mountinfo").splitlines()),
        "cgroups": sorted(line.rpartition(".")[2] for line in read("cgroup").splitlines()),
        "pids": sorted(filter(str.isdigit, os.listdir("/proc")), key=int)[0],
        "collects": gc.isenabled(), "main thread": threading.current_thread().name,
    }


class Looks(Model):
    def load(self):
        facts = look()
        facts["random"] = [random.random(), float(numpy.random.rand())]
        with open("/out/facts.json", "w") as file:
            json.dump(facts, file)
        self.ready = True

    def predict(self, payload, headers=None):
        if payload["instances"] == ["exit"]:
            sys.exit(7)
        return {"predictions": [1]}
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.py").write_text(MODEL)
    (tmp_path / "world").mkdir()
    serve = ImageRule("test/server*", ("python", "-m", "kedge", "serve", "python"))
    world = World(tmp_path / "world", images=(serve,))
    await world.start()
    try:
        yield world
    finally:
        await world.close()


async def serve(world: World, name: str, env: dict[str, str] | None = None, **more: Any) -> Object:
    """A pod of the server, once it is ready."""
    out = world.folder.parent / "out" / name
    out.mkdir(parents=True)
    mounts = [
        {"name": "model", "mountPath": "/mnt/models", "readOnly": True},
        {"name": "out", "mountPath": "/out"},
    ]
    await world.run_pod(
        name,
        {
            "name": "server",
            "image": "test/server",
            "args": ["--model_name=m", "--enable_grpc=false"],
            "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"tcpSocket": {"port": 8080}},
            "resources": {"limits": {"cpu": "1", "memory": "500Mi"}},
            "volumeMounts": mounts,
            **more,
        },
        volumes=[
            {"name": "model", "hostPath": {"path": str(world.folder.parent / "model")}},
            {"name": "out", "hostPath": {"path": str(out)}},
        ],
        restartPolicy="Always",
    )
    return await world.wait_for(name, is_ready, 60)


def facts(world: World, name: str) -> dict[str, Any]:
    path = world.folder.parent / "out" / name / "facts.json"
    return dict(json.loads(path.read_text()))


def how(pod: Object) -> str:
    """`Forked` or `Executed`."""
    conditions = pod["status"]["conditions"]
    return str(next(c["reason"] for c in conditions if c["type"].endswith("/Started")))


def template(world: World) -> int:
    """The pid of the template."""
    (pid,) = templates()
    return pid


def templates() -> list[int]:
    """Those of the agent in this process; a whole Kedge below it may have its own."""
    return [pid for pid in processes.descendants(os.getpid()) if _is_template(pid)]


def _is_template(pid: int) -> bool:
    proc = Path(f"/proc/{pid}")
    try:
        parent = int((proc / "stat").read_text().rpartition(")")[2].split()[1])
        is_pod = (proc / "comm").read_text() == "kedge-pod\n"
        named = b"--template" in (proc / "cmdline").read_bytes()
        return named and not is_pod and parent == os.getpid()
    except OSError:
        return False  # It has ended meanwhile.


async def test_a_forked_pod_cannot_be_told_from_one_by_exec(world: World) -> None:
    forked = await serve(world, "pod-f", {"MINE": "yes", "GREETING": "a=b c"})
    # Python read this one before anything could be forked.
    executed = await serve(
        world, "pod-x", {"MINE": "yes", "GREETING": "a=b c", "PYTHONHASHSEED": "0"}
    )
    assert (how(forked), how(executed)) == ("Forked", "Executed")
    one, other = facts(world, "pod-f"), facts(world, "pod-x")
    assert one.pop("random") != other.pop("random")
    uids = [pod["metadata"]["uid"] for pod in (forked, executed)]
    addresses = [pod["status"]["podIP"] for pod in (forked, executed)]
    text = json.dumps(one).replace(uids[0], uids[1]).replace(addresses[0], addresses[1])
    one = json.loads(text.replace("pod-f", "pod-x"))
    for where in ("environ", "shown environ"):
        if where == "environ":
            del other[where]["PYTHONHASHSEED"]
        else:
            other[where].remove("PYTHONHASHSEED=0")
            one[where].sort()
            other[where].sort()
    one.pop("flags"), other.pop("flags")  # hash randomization is the difference
    for key in other:
        assert one[key] == other[key], key


async def test_pods_forked_from_one_template_differ_in_chance(world: World) -> None:
    for name in ("one", "two"):
        assert how(await serve(world, name)) == "Forked"
    assert facts(world, "one")["random"] != facts(world, "two")["random"]


async def test_a_killed_template_is_renewed_and_pods_start_without_it(world: World) -> None:
    first = await serve(world, "first")
    killed = template(world)
    os.kill(killed, signal.SIGKILL)
    await serve(world, "second")
    assert container(await world.wait_for("first", is_ready))["restartCount"] == 0
    await until(lambda: len(templates()) == 1 and template(world) != killed)
    assert how(first) == "Forked"
    assert how(await serve(world, "third")) == "Forked"


async def test_changed_files_are_noticed(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    rule = ImageRule(
        "test/server*", ("python", "-m", "kedge", "serve", "python"), {"PYTHONPATH": str(folder)}
    )
    await world.stop()
    world.settings = world.settings.__class__(**{**vars(world.settings), "images": (rule,)})
    await world.start()
    assert how(await serve(world, "before")) == "Forked"
    old = template(world)
    (folder / "added.py").write_text("")
    assert how(await serve(world, "changed")) == "Executed"
    await until(lambda: len(templates()) == 1 and template(world) != old)
    assert how(await serve(world, "after")) == "Forked"


async def test_a_forked_container_is_restarted_and_its_exit_code_told(world: World) -> None:
    pod = await serve(world, "one")
    run = next(
        pid
        for pid in processes.descendants(os.getpid())
        if b"--model_name=m" in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    os.kill(run, signal.SIGTERM)
    pod = await world.wait_for("one", lambda p: container(p)["restartCount"] == 1 and is_ready(p))
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 0


async def test_a_server_that_cannot_start_says_so_in_the_same_words(world: World) -> None:
    (world.folder.parent / "model" / "model.py").write_text("import nothing_of_that_name\n")
    out = world.folder.parent / "out"
    out.mkdir()
    await world.run_pod(
        "one",
        {
            "name": "server", "image": "test/server",
            "volumeMounts": [{"name": "model", "mountPath": "/mnt/models"}],
        },
        volumes=[{"name": "model", "hostPath": {"path": str(world.folder.parent / "model")}}],
    )  # fmt: skip
    pod = await world.wait_for("one", lambda p: container(p)["lastState"].get("terminated"), 60)
    ended = container(pod)["lastState"]["terminated"]
    assert ended["exitCode"] == 1
    assert ended["message"].startswith("ModelLoadFailed")


async def test_an_agent_that_comes_later_adopts_forked_pods(world: World) -> None:
    first = await serve(world, "first")
    await world.stop()
    await world.start()
    # What was in use is there again, before anybody asks.
    await until(templates)
    again = await world.wait_for("first", is_ready)
    assert container(again)["restartCount"] == 0
    assert again["status"]["podIP"] == first["status"]["podIP"]
    assert how(await serve(world, "second")) == "Forked"


async def test_templates_end_with_the_supervisor(world: World) -> None:
    await serve(world, "one")
    pid = template(world)
    world.end_life()
    await until(lambda: pid not in templates())
