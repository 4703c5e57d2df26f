"""Defines the exception whose message is written for the person at the terminal; cuts others to one line."""

import errno

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class EdgewiseError(Exception):
    """Reports something the user can put right: the message names what was given, what was expected and what to do.

    A command prints the message alone, without a traceback, and exits with status 1.
    """


def no_room(error: OSError) -> EdgewiseError | None:
    """Returns what to tell the person where a disk is full or a quota is used up; None for another error."""
    if error.errno not in _NO_ROOM:
        return None
    where = f"{error.filename} can't be written: " if error.filename else ""
    return EdgewiseError(f"{where}{error.strerror}; make room there and run the same command again, which goes on")


def first_line(error: BaseException | str, most: int = 300) -> str:
    """Returns the first line with text of an error's message, cut at `most` characters.

    An exception without a message gives its type's name.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:most] if lines else type(error).__name__


def last_line(traceback: str | None) -> str | None:
    """Returns the last line with text of a traceback, which says what it came to; None where there is no text."""
    lines = [line for line in (traceback or "").splitlines() if line.strip()]
    return lines[-1] if lines else None
