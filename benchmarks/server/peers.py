"""Who takes part: how each server is installed, started, and what it can be asked.

A peer's environment is made by pip from `requirements/NAME.txt`, every version pinned, below
`benchmarks/.peers`. Servers run as they are shipped; where joining requests is an option that the
user sets (mosec, LitServe, Triton), it is set.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.server.processes import Failed, Ports

HERE = Path(__file__).parent
SERVED = HERE / "served"
ENVIRONMENTS = HERE.parent / ".peers"

TREES = frozenset({"xgboost", "lightgbm"})


@dataclass(frozen=True)
class Setup:
    """What a server is to serve.

    Attributes:
        python: the interpreter of the peer's environment.
        framework: sklearn, xgboost, lightgbm, onnx or identity.
        folder: where the model's file lies.
        scratch: a folder for configuration files.
    """

    python: Path
    framework: str
    folder: Path
    ports: Ports
    scratch: Path

    @property
    def model(self) -> str:
        return "identity" if self.framework == "identity" else "iris"

    @property
    def file(self) -> Path:
        return self.folder / "model.joblib"


@dataclass(frozen=True)
class Launch:
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A server that is measured.

    Attributes:
        environment: name of the requirements file; empty for this interpreter.
        package: whose version is reported.
        frameworks: what it can serve here.
        grpc: it answers Open Inference over gRPC.
    """

    name: str
    environment: str
    package: str
    launch: Callable[[Setup], Launch]
    frameworks: frozenset[str] = frozenset({"sklearn"})
    grpc: bool = False

    @property
    def python(self) -> Path:
        if not self.environment:
            return Path(sys.executable)
        return ENVIRONMENTS / self.environment / "bin" / "python"

    def install(self) -> None:
        """Makes the environment, unless it is there with just these versions."""
        if not self.environment:
            return
        folder = ENVIRONMENTS / self.environment
        wanted = HERE / "requirements" / f"{self.environment}.txt"
        stamp = folder / "installed"
        digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text() == digest:
            return
        print(f"installing {self.environment} from PyPI ...", file=sys.stderr, flush=True)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "-r", str(wanted)]
        for command in ([sys.executable, "-m", "venv", str(folder)], pip):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise Failed(f"{self.name} cannot be installed: {done.stderr.strip()[-600:]}")
        stamp.write_text(digest)

    def versions(self) -> dict[str, str]:
        names = [self.package, "scikit-learn", "numpy"]
        code = (
            "import json, sys\nfrom importlib.metadata import version\n"
            "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
        )
        done = subprocess.run([self.python, "-c", code, *names], capture_output=True, text=True)
        found: dict[str, str] = json.loads(done.stdout or "{}")
        return found


# -- how each is started -------------------------------------------------------------------------


def kedge(setup: Setup) -> Launch:
    python, ports = str(setup.python), setup.ports
    if setup.framework == "identity":
        script = str(SERVED / "kedge_identity.py")
        return Launch([python, script, str(ports.http), str(ports.grpc)])
    return Launch(
        [
            python, "-m", "kedge", "serve", setup.framework, f"--model_name={setup.model}",
            f"--model_dir={setup.folder}", f"--http_port={ports.http}",
            f"--grpc_port={ports.grpc}",
        ]
    )  # fmt: skip


def kserve(setup: Setup) -> Launch:
    return Launch(
        [
            str(setup.python), str(SERVED / "kserve_server.py"),
            f"--framework={setup.framework}", f"--model_name={setup.model}",
            f"--model_dir={setup.folder}", f"--http_port={setup.ports.http}",
            f"--grpc_port={setup.ports.grpc}", "--grpc_max_receive_message_length=67108864",
            "--grpc_max_send_message_length=67108864",
        ]
    )  # fmt: skip


_MLSERVER = {
    "sklearn": ("mlserver_sklearn.SKLearnModel", "model.joblib"),
    "xgboost": ("mlserver_xgboost.XGBoostModel", "model.bst"),
    "lightgbm": ("mlserver_lightgbm.LightGBMModel", "model.bst"),
}


def mlserver(setup: Setup) -> Launch:
    implementation, file = _MLSERVER[setup.framework]
    settings = {
        "host": "127.0.0.1",
        "http_port": setup.ports.http,
        "grpc_port": setup.ports.grpc,
        "metrics_port": setup.ports.metrics,
    }
    model = {
        "name": setup.model,
        "implementation": implementation,
        "parameters": {"uri": str(setup.folder / file)},
    }
    write(setup.scratch / "settings.json", json.dumps(settings))
    write(setup.scratch / "model-settings.json", json.dumps(model))
    program = setup.python.with_name("mlserver")
    return Launch([str(program), "start", str(setup.scratch)])


def mosec(setup: Setup) -> Launch:
    script, port = str(SERVED / "mosec_server.py"), str(setup.ports.http)
    return Launch(
        [str(setup.python), script, "--address", "127.0.0.1", "--port", port],
        {"MODEL": str(setup.file)},
    )


def litserve(setup: Setup) -> Launch:
    return Launch(
        [str(setup.python), str(SERVED / "litserve_server.py")],
        {"MODEL": str(setup.file), "PORT": str(setup.ports.http)},
    )


def asgi(setup: Setup) -> Launch:
    env = {"PORT": str(setup.ports.http)}
    if setup.framework != "identity":
        env["MODEL"] = str(setup.file)
    return Launch([str(setup.python), str(SERVED / "asgi_sketch.py")], env)


def asgi_batching(setup: Setup) -> Launch:
    plain = asgi(setup)
    return Launch(plain.command, {**plain.env, "BATCH": "1"})


_TRITON_CONFIG = """\
name: "iris"
backend: "python"
max_batch_size: 256
input [{{ name: "input-0" data_type: TYPE_FP64 dims: [4] }}]
output [{{ name: "output-0" data_type: TYPE_INT64 dims: [1] }}]
instance_group [{{ kind: KIND_CPU count: 1 }}]
dynamic_batching {{}}
parameters {{ key: "model" value: {{ string_value: "{file}" }} }}
"""


def triton(setup: Setup) -> Launch:
    """The server in NVIDIA's pytriton wheel, without pytriton."""
    packages = next((setup.python.parent.parent / "lib").glob("python3*")) / "site-packages"
    home = packages / "pytriton" / "tritonserver"
    model = setup.scratch / "models" / "iris"
    write(model / "config.pbtxt", _TRITON_CONFIG.format(file=setup.file))
    write(model / "1" / "model.py", (SERVED / "triton_model.py").read_text())
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    place = home / "backends" / "python" / stub.name
    if not place.exists():
        place.symlink_to(stub)
    ports = setup.ports
    return Launch(
        [
            str(home / "bin" / "tritonserver"), f"--model-repository={model.parent}",
            f"--backend-directory={home / 'backends'}", "--http-address=127.0.0.1",
            "--grpc-address=127.0.0.1", f"--http-port={ports.http}",
            f"--grpc-port={ports.grpc}", f"--metrics-port={ports.metrics}",
        ],
        {
            "PACKAGES": str(packages),
            "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
        },
    )  # fmt: skip


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


_ALL = (
    Peer("kedge", "", "kedge", kedge, TREES | {"sklearn", "onnx", "identity"}, grpc=True),
    Peer("kserve", "kserve", "kserve", kserve, TREES | {"sklearn", "onnx", "identity"}, grpc=True),
    Peer("mlserver", "mlserver", "mlserver", mlserver, TREES | {"sklearn"}, grpc=True),
    Peer("triton", "triton", "nvidia-pytriton", triton, grpc=True),
    Peer("mosec", "mosec", "mosec", mosec),
    Peer("litserve", "litserve", "litserve", litserve),
    Peer("asgi", "asgi", "uvicorn", asgi, frozenset({"sklearn", "identity"})),
    Peer("asgi-batching", "asgi", "uvicorn", asgi_batching),
)
PEERS: Mapping[str, Peer] = {peer.name: peer for peer in _ALL}
