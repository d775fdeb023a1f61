"""Makes `messages.json` from the struct tags of Kubernetes' Go types.

    python -m kedge.cluster.local.http.wire.generate API_CHECKOUT APIMACHINERY_CHECKOUT

The arguments are checkouts of the modules k8s.io/api and k8s.io/apimachinery. The result holds
every message that the served kinds need: `{"core.Pod": ["1 metadata meta.ObjectMeta", ...]}`, a
field's number, JSON name and type. A field named `-` is inlined into its parent, one named with `?`
left out when it is zero; a type may begin with `[]` (list) or `{}` (map by string).
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

_PACKAGES = {
    "core": "core/v1", "apps": "apps/v1", "autoscaling": "autoscaling/v2",
    "autoscalingv1": "autoscaling/v1", "coordination": "coordination/v1",
    "discovery": "discovery/v1", "authorization": "authorization/v1",
    "authentication": "authentication/v1", "policy": "policy/v1",
}  # fmt: skip
_ALIASES = {"v1": "core", "metav1": "meta"}
_ROOTS = (
    "core.ConfigMap", "core.Endpoints", "core.Event", "core.Namespace", "core.Node",
    "core.PersistentVolumeClaim", "core.Pod", "core.Secret", "core.Service", "core.ServiceAccount",
    "apps.Deployment", "apps.ReplicaSet", "autoscaling.HorizontalPodAutoscaler",
    "autoscalingv1.Scale", "coordination.Lease", "discovery.EndpointSlice",
    "authorization.SelfSubjectAccessReview", "authorization.SelfSubjectRulesReview",
    "authorization.SubjectAccessReview", "authorization.LocalSubjectAccessReview",
    "authentication.SelfSubjectReview", "policy.Eviction", "meta.DeleteOptions",
)  # fmt: skip
_SPECIAL = {
    "meta.Time": "time", "meta.MicroTime": "time", "resource.Quantity": "quantity",
    "intstr.IntOrString": "int-or-string", "meta.FieldsV1": "raw", "runtime.RawExtension": "raw",
    "meta.Duration": "duration",
}  # fmt: skip
_SCALARS = {
    "string": "string", "bool": "bool", "int32": "int", "int64": "int", "int": "int",
    "uint32": "int", "byte": "bytes", "float64": "double", "types.UID": "string",
}  # fmt: skip

_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.S | re.M)
_NAMED = re.compile(r"^type (\w+) ((?:\[\]|map\[[\w.]+\])?[\w.]+)$", re.M)
_FIELD = re.compile(r"^\s+(?:(\w+)\s+)?([\w.*\[\]]+)\s+`([^`]*)`", re.M)


class _Types:
    """The Go types of all packages, by `package.Name`."""

    def __init__(self) -> None:
        self.structs: dict[str, str] = {}
        self.named: dict[str, str] = {}

    def read(self, package: str, folder: Path) -> None:
        for path in sorted(folder.glob("*.go")):
            if path.name.endswith(("_test.go", ".pb.go")) or path.name.startswith("zz_"):
                continue
            text = re.sub(r"^\s*//.*\n", "", path.read_text(), flags=re.M)
            for name, body in _STRUCT.findall(text):
                self.structs.setdefault(f"{package}.{name}", body)
            for name, what in _NAMED.findall(text):
                self.named.setdefault(f"{package}.{name}", what)

    def resolve(self, package: str, go_type: str) -> str:
        """Our name of a Go type, seen from a package."""
        text = go_type.lstrip("*")
        if text == "[]byte":
            return "bytes"
        if text.startswith("[]"):
            return "[]" + self.resolve(package, text[2:])
        if text.startswith("map["):
            return "{}" + self.resolve(package, text.partition("]")[2])
        if text in _SCALARS:
            return _SCALARS[text]
        prefix, dot, name = text.rpartition(".")
        full = f"{_ALIASES.get(prefix, prefix) if dot else package}.{name}"
        if full in _SPECIAL:
            return _SPECIAL[full]
        if full in self.named:
            inner = self.resolve(full.partition(".")[0], self.named[full])
            # A named list is a message that holds the list.
            return f"items:{inner}" if inner.startswith("[]") else inner
        return full

    def fields(self, message: str) -> list[str]:
        package = message.partition(".")[0]
        found = []
        for _name, go_type, tags in _FIELD.findall(self.structs[message]):
            wire = re.search(r'protobuf:"\w+,(\d+)', tags)
            named = re.search(r'json:"([^",]*)([^"]*)"', tags)
            if wire is None or named is None:
                continue
            name = named[1] or "-"
            optional = "omitempty" in named[2] and not go_type.startswith("*")
            mark = "?" if optional and name != "-" else ""
            found.append(f"{wire[1]} {name}{mark} {self.resolve(package, go_type)}")
        return found


def generate(api: Path, apimachinery: Path) -> dict[str, list[str]]:
    """The messages of all roots and of what they use."""
    types = _Types()
    for package, folder in _PACKAGES.items():
        types.read(package, api / folder)
    types.read("meta", apimachinery / "pkg/apis/meta/v1")
    messages: dict[str, list[str]] = {}
    waiting = list(_ROOTS)
    while waiting:
        message = waiting.pop()
        if message in messages:
            continue
        messages[message] = types.fields(message)
        for field in messages[message]:
            inner = re.sub(r"^(\[\]|\{\}|items:)+", "", field.rpartition(" ")[2])
            if "." in inner:
                waiting.append(inner)
    return dict(sorted(messages.items()))


if __name__ == "__main__":
    target = Path(__file__).with_name("messages.json")
    made = generate(Path(sys.argv[1]), Path(sys.argv[2]))
    target.write_text(json.dumps(made, indent=1) + "\n")
    print(f"{target}: {len(made)} messages")
