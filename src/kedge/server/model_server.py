"""Where KServe's scripts look for the parser: `ArgumentParser(parents=[model_server.parser])`.

It knows the flags of every server; a script adds its own.
"""

from __future__ import annotations

from kedge.server.options import script_parser
from kedge.server.server import ModelServer

parser = script_parser()

__all__ = ["ModelServer", "parser"]
