"""Writes `docs/reference/server.md` from the server's own flags.

`python -m kedge.server.reference docs/reference/server.md`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from kedge.server.options import CERTIFICATES, UNHEEDED, serve_parser

_HEAD = """\
# The server's flags

Written from the server by `python -m kedge.server.reference docs/reference/server.md`.

`kedge serve RUNTIME ...` takes these and its runtime's ([runtimes](runtimes.md)); a script that
ends in `ModelServer().start([...])` takes all but `--model_dir` and `--nthread`. The names are
those of KServe's server and agent where they have one, so that their manifests run unchanged. What
nobody reads is told in a warning at the start.

| Flag | Meaning | Default |
| --- | --- | --- |
"""

_TAIL = """
Of KServe's flags, these change nothing here, and a warning says so:

{unheeded}

These are refused, for who sets them relies on them: {refused} (the server does not speak TLS; the
gateway does).

## Environment

| Variable | Meaning |
| --- | --- |
| `KSERVE_LOGLEVEL` | Level of the server's own lines; `INFO` unless set |
| `KEDGE_BIND_ADDRESS` | Where to listen in place of every address of IPv6 and IPv4 |
| `KEDGE_READY_SOCKET`, `KEDGE_READY_NAME` | A datagram socket that is told once requests are \
answered, and what this server is called there; `kedge up` sets both, in every container |
| `KEDGE_IDLE_SECONDS` | How long nothing must come, after SIGTERM, before the server ends; 0.5 \
unless set. `kedge up` sets 0.1: there the gateway has let go of a pod before it is told to end |
| `KEDGE_TERMINATION_LOG` | A file for the one line that tells why the server did not start |
| `INFERENCE_SERVICE_NAME` | Name of the service in events and traces |
| `PREDICT_PROBA` | `true`: classifiers answer probabilities |
| `CE_SOURCE`, `CE_TYPE`, `CE_MERGE` | Attributes of answers to V1 requests that are CloudEvents |
| `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE` | Certificates that a transformer checks its predictor by |
| `OTEL_EXPORTER_OTLP_ENDPOINT` and the other `OTEL_*` | Traces ([how to](../howto/observe.md)) |
"""


def document() -> str:
    unheeded = "\n".join(f"- `{flag}`: {why}" for flag, why in UNHEEDED.items())
    refused = ", ".join(f"`{flag}` (`{variable}`)" for flag, variable in CERTIFICATES.items())
    tail = _TAIL.format(unheeded=unheeded, refused=refused)
    return _HEAD + "\n".join(_rows(serve_parser())) + "\n" + tail


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or not action.option_strings or action.dest == "help":
            continue
        values = " " + " or ".join(action.choices) if action.choices else ""
        default = "" if action.default in (None, "", []) else f"`{str(action.default).lower()}`"
        text = (action.help or "").replace("%%", "%")
        yield f"| `{action.option_strings[0]}`{values} | {text} | {default} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document())
