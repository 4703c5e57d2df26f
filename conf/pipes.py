"""Ends a command quietly whose output goes into a pipe that nobody reads to its end, such as `| head`."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

PRINTING_FLAGS = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i")  # no work is done
CLOSED_PIPE_STATUS = 1


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command and ends the process with the status that it returns, or CLOSED_PIPE_STATUS for a closed pipe."""
    try:
        try:
            status = main()
        finally:
            sys.stdout.flush()  # else Python does at its end, and prints what it then meets
    except BrokenPipeError:
        close_output()
        status = CLOSED_PIPE_STATUS
    sys.exit(status)


def close_output() -> None:
    """Sends what is still to be printed nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_at_closed_pipe(arguments: Sequence[str]) -> None:
    """Has a closed pipe end the process, as it ends other programs, where the command line only asks for information.

    Hydra prints a traceback otherwise. Not where work is done: a socket whose other side is gone would end it too.
    """
    if any(argument in PRINTING_FLAGS for argument in arguments):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
