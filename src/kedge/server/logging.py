"""Logging as scripts configure it: `logging.configure_logging(args.log_config_file)`."""

from __future__ import annotations

import json
import logging.config
from pathlib import Path

import yaml

from kedge.server.errors import BadUsage
from kedge.server.log import configure, logger

__all__ = ["configure_logging", "logger"]


def configure_logging(log_config_file: str | None = None, level: str = "INFO") -> None:
    """The server's lines to stderr; or what a file says, in JSON or YAML (dictConfig) or INI."""
    if log_config_file is None:
        configure(level)
        return
    path = Path(log_config_file)
    try:
        if path.suffix == ".json":
            logging.config.dictConfig(json.loads(path.read_text()))
        elif path.suffix in (".yaml", ".yml"):
            logging.config.dictConfig(yaml.safe_load(path.read_text()))
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        raise BadUsage(f"The logging configuration {path} cannot be used: {error}.") from error
