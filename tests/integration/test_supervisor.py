"""The supervisor with real processes: restarts, refusals, and what its death leaves (nothing)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

PART = """
import os, select, socket, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "pids").open("a").write(f"{os.getpid()}\\n")
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"part", os.environ["KEDGE_NOTIFY_SOCKET"])
# A grandchild in a session of its own, as a daemon would be: it holds the life pipe too.
life = int(os.environ["KEDGE_LIFE_FD"])
if os.fork() == 0:
    os.setsid()
    (folder / "grandchildren").open("a").write(f"{os.getpid()}\\n")
select.select([life], [], [])
"""


def wait_for(what: Callable[[], T], seconds: float = 10.0) -> T:
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
    return value


FAULTY = """
import os, signal, socket, sys
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "pids").open("a").write(f"{os.getpid()}\\n")
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def tell(text): notify.sendto(text.encode(), os.environ["KEDGE_NOTIFY_SOCKET"])
if (folder / "never-ready").exists():
    tell("part\\nthe colour blue is out\\nof stock")
else:
    tell("part")
    signal.signal(signal.SIGUSR1, lambda *_: tell("part\\nthe colour blue is out"))
    signal.signal(signal.SIGUSR2, lambda *_: tell("part"))
while True:
    signal.pause()
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class Running:
    def __init__(self, folder: Path, code: str = PART) -> None:
        self.folder = folder
        (folder / "logs").mkdir(exist_ok=True)
        self.plan = folder / "plan.json"
        self.plan.write_text(
            json.dumps(
                {
                    "data_dir": str(folder),
                    "notify_socket": f"/tmp/kedge-test-{os.getpid()}.sock",
                    "parts": [
                        {
                            "name": "part",
                            "argv": [sys.executable, "-c", code, str(folder)],
                            "env": {},
                            "log": str(folder / "logs" / "part.log"),
                        }
                    ],
                    "announcement": {"gateway_url": "http://x"},
                    "lines": ["ready in {seconds} s"],
                }
            )
        )
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "kedge.modes.supervisor", str(self.plan)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> dict[str, object]:
        path = self.folder / "ready.json"
        wait_for(path.exists)
        document: dict[str, object] = json.loads(path.read_text())
        return document


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    it = Running(tmp_path)
    yield it
    it.process.kill()
    it.process.communicate()
    wait_for(lambda: not any(alive(pid) for pid in pids(tmp_path / "pids")))


def test_announces_restarts_and_stops(running: Running) -> None:
    assert running.ready()["gateway_url"] == "http://x"
    first = wait_for(lambda: pids(running.folder / "pids"))[0]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: len(pids(running.folder / "pids")) == 2)
    running.process.send_signal(signal.SIGTERM)
    out, _ = running.process.communicate(timeout=20)
    assert running.process.returncode == 0
    assert out.startswith("ready in ")
    assert not any(alive(pid) for pid in pids(running.folder / "pids"))
    assert not any(alive(pid) for pid in pids(running.folder / "grandchildren"))
    assert not (running.folder / "kedge.pid").exists()
    assert not (running.folder / "ready.json").exists()


def test_nothing_survives_its_sudden_death(running: Running) -> None:
    running.ready()
    wait_for(lambda: pids(running.folder / "grandchildren"))
    running.process.kill()
    everything = pids(running.folder / "pids") + pids(running.folder / "grandchildren")
    wait_for(lambda: not any(alive(pid) for pid in everything))


def test_a_second_one_is_refused_by_pid(running: Running) -> None:
    running.ready()
    second = running.start()
    _, err = second.communicate(timeout=20)
    assert second.returncode == 1
    assert f"(pid {running.process.pid})" in err
    assert "Fix:" in err
    assert running.process.poll() is None


def test_a_part_that_never_gets_ready_ends_the_start_with_its_log(tmp_path: Path) -> None:
    it = Running(tmp_path, "import sys; sys.exit('no such colour: blue')")
    _, err = it.process.communicate(timeout=20)
    assert it.process.returncode == 1
    assert "no such colour: blue" in err
    assert "Fix:" in err


def test_a_fault_before_it_is_ready_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "never-ready").touch()
    it = Running(tmp_path, FAULTY)
    _, err = it.process.communicate(timeout=20)
    assert it.process.returncode == 1
    assert err == "the colour blue is out\nof stock\n"
    assert not any(alive(pid) for pid in pids(tmp_path / "pids"))


def test_a_fault_afterwards_is_told_until_it_is_gone(tmp_path: Path) -> None:
    it = Running(tmp_path, FAULTY)
    try:
        assert "faults" not in it.ready()
        os.kill(pids(tmp_path / "pids")[0], signal.SIGUSR1)
        wait_for(lambda: it.ready().get("faults") == {"part": "the colour blue is out"})
        os.kill(pids(tmp_path / "pids")[0], signal.SIGUSR2)
        wait_for(lambda: "faults" not in it.ready())
        assert it.ready()["gateway_url"] == "http://x"
        told = (tmp_path / "logs" / "supervisor.log").read_text()
        assert told.index("part: the colour blue is out") < told.index("part is well again")
    finally:
        it.process.terminate()
        it.process.communicate(timeout=20)
    assert it.process.returncode == 0


def test_a_part_that_ends_again_and_again_is_told_until_it_is_well(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    code = PART.replace(
        "notify =", f"if os.path.exists({str(broken)!r}): sys.exit('no blue')\nnotify ="
    )
    it = Running(tmp_path, code)
    try:
        assert "faults" not in it.ready()
        broken.touch()
        os.kill(pids(tmp_path / "pids")[0], signal.SIGKILL)
        faults = wait_for(lambda: it.ready().get("faults"))
        told = faults["part"] if isinstance(faults, dict) else ""
        assert "it ended with status 1 3 times in a row" in told
        assert "no blue" in told
        assert f"Fix: read {tmp_path / 'logs' / 'part.log'}." in told
        broken.unlink()
        wait_for(lambda: "faults" not in it.ready())
    finally:
        it.process.terminate()
        it.process.communicate(timeout=20)
