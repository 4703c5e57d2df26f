"""The one exception whose message is written for the person at the terminal."""


class EdgewiseError(Exception):
    """Something the user can put right: the message names what was given, what was expected and what to do.

    A command prints the message alone, without a traceback, and exits with status 1.
    """
