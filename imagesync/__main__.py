"""The entry point of ``imagesync`` and of ``python -m imagesync``."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line.

    While its modules are imported, Ctrl-C ends the process without a word, as it does before Python starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from imagesync.cli.main import main as run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
