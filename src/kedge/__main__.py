"""`python -m kedge`: pods start here, so `serve` and `storage` are found before anything else.

The command line with its tables and colours takes 200 ms to import; a pod has no use for it.
"""

from __future__ import annotations

import sys


def main() -> int:
    verb, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if verb == "serve":
        from kedge.server.main import serve

        return serve(arguments)
    if verb == "storage":
        from kedge.storage.__main__ import main as bring

        return bring(arguments)
    from kedge.cli.main import main as command_line

    return int(command_line() or 0)


if __name__ == "__main__":
    sys.exit(main())
