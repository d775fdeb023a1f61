"""`kedge serve RUNTIME --template`: a server that has imported all it needs, to be forked.

It is made of imports alone: no prediction, no event loop, no gRPC, no CUDA, and one thread, since a
fork copies nothing else; the kernel's own count is asked before anyone may fork. What holds a pod
(`shim`, given by its path: the node agent's, a file of the standard library) forks from here and
calls `become`, which must leave a process that cannot be told from one that was started by exec:
environment, arguments, module path, signals, thread counts, random numbers.

A pod whose environment differs in anything that was read while importing is refused and starts by
exec. Python's reads are watched, a native library's are known by their prefixes.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from kedge.server import phases
from kedge.server.errors import StartFailure
from kedge.server.main import RUNTIMES, find_runtime, serve
from kedge.server.options import parse

_SERVER = (
    "asyncio", "uvloop", "httptools", "json", "orjson", "numpy", "kedge.server.server",
    "kedge.server.grpc.service", "kedge.server.http.app", "uvicorn.lifespan.off",
)  # fmt: skip
_SERVE = ("-m", "kedge", "serve")
_IDLE_MILLISECONDS = 2000.0

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
"""What holds libraries to so many threads; `become` sets what they say."""

_READ_LATER = {
    *THREADS, "CUDA_VISIBLE_DEVICES", "TZ", "HOSTNAME", "PWD", "http_proxy", "HTTP_PROXY",
    "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "KSERVE_LOGLEVEL", "PREDICT_PROBA",
}  # fmt: skip
_NATIVE = (
    "PYTHON", "LD_", "LC_", "LANG", "GLIBC_", "MALLOC_", "OMP_", "GOMP_", "KMP_", "MKL_",
    "OPENBLAS_", "GOTO_", "BLIS_", "NPY_", "NUMPY_", "TORCH", "PYTORCH_", "ATEN_", "CUDA_",
    "NVIDIA_", "CUBLAS_", "ONEDNN_", "DNNL_", "ORT_", "UV_", "XGBOOST_", "LIGHTGBM_",
)  # fmt: skip
"""Prefixes of the variables that C and C++ libraries read when they are loaded."""


class ThreadsFound(StartFailure):
    """Something that was imported has started a thread."""

    reason = "TemplateHasThreads"


class Watched(os._Environ[str]):
    """The environment, remembering which names were asked for (not those merely listed)."""

    def __getitem__(self, key: str) -> str:
        asked.add(os.fsdecode(key))
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        asked.add(os.fsdecode(key) if isinstance(key, str | bytes) else "")
        return super().__contains__(key)

    def items(self) -> Any:
        return self.copy().items()

    def copy(self) -> dict[str, str]:
        decode: Callable[[bytes], str] = os.fsdecode
        return {decode(key): decode(value) for key, value in self._data.items()}  # type: ignore[attr-defined]  # as os itself does


asked: set[str] = set()


class ServerProgram:
    """A server of one runtime, imported (the node agent's `shim.Program`).

    Attributes:
        environ: the environment that this process was started with.
    """

    def __init__(self, runtime: str) -> None:
        self.environ = dict(os.environ)
        self._runtime = runtime
        self._started = time.monotonic()
        os.environ.__class__ = Watched
        module = find_runtime(runtime)
        for name in _SERVER:
            import_module(name)
        parse([runtime], {})  # Compiles what reads a command line.
        preload = getattr(module, "preload", None)
        self._later: list[Callable[[], object]] = list(preload() if preload else ())
        _check_threads()
        self._folders = _stamps()

    # -- what the shim asks ----------------------------------------------------------------------

    def refusal(self, request: Mapping[str, Any]) -> str:
        if request["argv"][:5] != [sys.orig_argv[0], *_SERVE, self._runtime]:
            return "it is another program"
        env = request["env"]
        for name in sorted(self._sensitive({*env, *self.environ})):
            if env.get(name) != self.environ.get(name):
                return f"variable {name} is read while importing"
        return ""

    def _sensitive(self, names: Iterable[str]) -> Iterator[str]:
        for name in names:
            if name in _READ_LATER or name.startswith("KEDGE_"):
                continue
            if name in asked or name.startswith(_NATIVE):
                yield name

    def is_stale(self) -> bool:
        return any(_stamp(folder) != stamp for folder, stamp in self._folders.items())

    def idle(self) -> float | None:
        """Imports one more thing that some models need, while nobody waits."""
        if not self._later:
            return None
        if time.monotonic() - self._started > _IDLE_MILLISECONDS / 1000:
            self._later.pop(0)()
        return _IDLE_MILLISECONDS

    # -- in the child ----------------------------------------------------------------------------

    def become(self, argv: list[str], env: dict[str, str]) -> NoReturn:
        """Serve, as `argv` asks (`PYTHON -m kedge serve RUNTIME ...`)."""
        phases.begin(warm=True)
        code = 1
        try:
            _take_environment(argv, env)
            gc.enable()
            _set_threads(env)
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed()
            time.tzset()
            code = serve(argv[4:])
        except SystemExit as exit:
            code = _exit_code(exit)
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
        _finish(code)


def template(argv: Sequence[str]) -> int:
    """`kedge serve RUNTIME --template SHIM CONTROL LIFE NAMESPACES`, as the node agent calls it."""
    runtime, _, shim, *rest = argv
    if runtime not in RUNTIMES:
        find_runtime(runtime)
    holder = _load(Path(shim))
    try:
        program = ServerProgram(runtime)
    except (StartFailure, ImportError) as error:
        print(f"No template of {runtime}: {error}", file=sys.stderr, flush=True)
        return 1
    holder.main(rest, program)
    return 0


def _load(path: Path) -> ModuleType:
    spec = spec_from_file_location("kedge_shim", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["kedge_shim"] = module
    spec.loader.exec_module(module)
    return module


def _check_threads() -> None:
    tasks = os.listdir("/proc/self/task")
    if len(tasks) != 1:
        raise ThreadsFound(
            f"{len(tasks)} threads run after the imports, and a fork would take one of them along.",
            fix="Leave the import that starts them to the model's loading.",
        )


def _stamps() -> dict[str, tuple[int, int]]:
    """The folders of everything imported: a package installed, removed or edited changes one."""
    # The first is the folder that a pod is started in, which is its own affair.
    folders = {path for path in sys.path[1:] if os.path.isdir(path)}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file:
            folders.add(os.path.dirname(file))
    # Kedge itself is edited in place by those who work on it.
    files = {str(path) for path in Path(__file__).parents[1].glob("*/*.py")}
    return {path: _stamp(path) for path in sorted(folders | files)}


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_ino)


def _take_environment(argv: list[str], env: Mapping[str, str]) -> None:
    os.environ.__class__ = os._Environ
    os.environ.clear()
    os.environ.update(env)
    _rename(argv, env)
    sys.argv = [_main_file(), *argv[3:]]
    sys.orig_argv = list(argv)
    sys.path[0] = os.getcwd()


def _main_file() -> str:
    return getattr(sys.modules["__main__"], "__file__", None) or sys.argv[0]


def _set_threads(env: Mapping[str, str]) -> None:
    """The template held all libraries to one thread; a pod may have more."""
    wanted = env.get("OMP_NUM_THREADS", "")
    count = int(wanted) if wanted.isdecimal() else len(os.sched_getaffinity(0))
    if count == 1:
        return
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    with suppress(ImportError):  # It came with scikit-learn, or there is nothing to limit.
        import_module("threadpoolctl").threadpool_limits(count)


def _exit_code(exit: SystemExit) -> int:
    if exit.code is None:
        return 0
    if isinstance(exit.code, int):
        return exit.code & 0xFF
    print(exit.code, file=sys.stderr)
    return 1


def _finish(code: int) -> NoReturn:
    """What an interpreter does at its end; the frames below are the shim's and are never left."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # It waits for threads that want it
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


# -- how the process looks from outside ----------------------------------------------------------

_PR_SET_MM, _PR_SET_MM_MAP = 35, 14


class _Map(ctypes.Structure):
    """`struct prctl_mm_map`."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in (
            "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack",
            "arg_start", "arg_end", "env_start", "env_end", "auxv",
        )),
        ("auxv_size", ctypes.c_uint32), ("exe_fd", ctypes.c_uint32),
    )  # fmt: skip


def _rename(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Show arguments and environment in /proc, where tools look; false where the kernel cannot."""
    arguments = b"".join(os.fsencode(word) + b"\0" for word in argv)
    variables = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
    shown = ctypes.create_string_buffer(arguments + variables)
    _kept.append(shown)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sbrk.restype = ctypes.c_void_p
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    at = fields
    start = ctypes.addressof(shown)
    wanted = _Map(
        start_code=int(at[23]), end_code=int(at[24]), start_stack=int(at[25]),
        start_data=int(at[42]), end_data=int(at[43]), start_brk=int(at[44]),
        brk=libc.sbrk(0) or 0,
        arg_start=start, arg_end=start + len(arguments),
        env_start=start + len(arguments), env_end=start + len(arguments) + len(variables),
        auxv=0, auxv_size=0, exe_fd=0xFFFFFFFF,
    )  # fmt: skip
    size = ctypes.c_ulong(ctypes.sizeof(wanted))
    option = ctypes.c_ulong(_PR_SET_MM_MAP)
    done: int = libc.prctl(_PR_SET_MM, option, ctypes.byref(wanted), size, ctypes.c_ulong(0))
    return done == 0


_kept: list[object] = []
