"""The command ``eegstore``, which is ``python -m eegstore`` too."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    # Until a command has begun there is nothing to end in good order.
    for one in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, lambda *_: os._exit(INTERRUPTED))
    from eegstore.cli import main as run

    run()


if __name__ == "__main__":
    main()
