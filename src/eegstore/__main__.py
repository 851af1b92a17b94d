"""The command ``eegstore``, which is ``python -m eegstore`` too."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NoReturn

INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    for one in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, _end)
    from eegstore.cli import main as run

    run()


def _end(*_: object) -> NoReturn:
    """Leave at once: until a command has begun there is nothing to end in good order."""
    with contextlib.suppress(OSError):
        os.write(2, b"eegstore: interrupted; run the same command again\n")
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
