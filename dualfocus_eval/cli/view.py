"""``dualfocus view``: a run in the browser, while it answers and when it has ended."""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from dualfocus_eval.common.errors import UserError
from dualfocus_eval.common.escaping import one_line

__all__ = ["main"]

_PORT, _LAST_PORT = 7580, 65535
_SECONDS = 2.0
"""Between two looks at a run's files."""


def main(argv: Sequence[str]) -> int:
    """Serve the page until Ctrl-C or a signal to end; 0 then.

    Raises ``UserError`` for a missing folder or a port that cannot be used.
    """
    chosen = _parser().parse_args(argv)
    if not chosen.run.exists():
        raise UserError(f"there is no run {chosen.run}; name the --output_path of a run")
    if not 0 <= chosen.port <= _LAST_PORT:
        raise UserError(f"--port {chosen.port}: give a number from 0 (any that is free) to {_LAST_PORT}")
    from dualfocus_eval.viewing.server import HOST, open_server
    from dualfocus_eval.viewing.watching import Watch

    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) == signal.SIG_DFL:  # and not ignored, as nohup has it
            signal.signal(name, signal.default_int_handler)  # as Ctrl-C, so that the temporary report goes too
    with tempfile.TemporaryDirectory(prefix="dualfocus-view-") as work:
        watch = Watch(chosen.run, Path(work))
        with open_server(watch, chosen.port) as server:
            serving = threading.Thread(target=server.serve_forever, daemon=True)
            serving.start()
            shown = one_line(str(chosen.run))
            print(f"{shown}: http://{HOST}:{server.server_address[1]}/ (stop with Ctrl-C)", flush=True)
            try:
                while True:
                    if not watch.step():
                        threading.Event().wait(_SECONDS)
            except KeyboardInterrupt:
                print("dualfocus view: stopped")
            finally:
                server.shutdown()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dualfocus view",
        description="Show a run in the browser. While it answers: progress, rate, time left, scores so far and "
        "failures, updated every two seconds. When it has ended: its report, which is made if the folder has none. "
        "Only this machine can connect.",
        epilog="exit status: 0 stopped with Ctrl-C; 2 no such run, or the port cannot be used; 3 an error in "
        "dualfocus-eval itself.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="the --output_path of a run, running or finished, or its *_results.json"
    )
    parser.add_argument(
        "--port", type=int, default=_PORT, metavar="N", help=f"port on 127.0.0.1; 0 for any free one (default: {_PORT})"
    )
    return parser
