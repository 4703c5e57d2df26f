"""Takes out of what a run says of itself what must not leave this machine: absolute paths and secrets.

Artifacts' contents are not touched: they are made without paths, and their digests are their identity.
"""

import os
import re
from typing import Any

# The directory part of an absolute path, POSIX or Windows. In an address (https://…) a slash follows a colon or another
# slash, and in `yes/no` a letter: those stay.
_DIRECTORY = re.compile(
    r"""(?<![\w/:.~)\]}])(?:~|[A-Za-z]:(?=[\\/]))?[\\/](?:[^\s/\\'",;:=]+[\\/])*(?=[^\s/\\'",;:=])"""
)
_SECRET_KEY = re.compile(r"(?:^|[_.-])(?:(?:api|access|secret|private)_?key|token|secret|password)$", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8  # characters: a shorter value of such a variable is likelier a word that occurs anyway


_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]*@")


def without_credentials(text: str) -> str:
    """Returns the text with the user name and password of each URL in it replaced."""
    return _CREDENTIALS.sub("[secret]@", text)


def redacted(value: Any) -> Any:
    """Returns the value with each absolute path cut to its last part and each secret replaced, at any depth.

    Secrets are what this process's environment holds in variables that are named like one, and strings under keys that
    are. Mapping keys become strings, as in JSON.
    """
    secrets = [
        text for name, text in os.environ.items() if _SECRET_VARIABLE.search(name) and len(text) >= _SHORTEST_SECRET
    ]
    return _redacted(value, sorted(secrets, key=len, reverse=True))


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "[secret]")
        return _DIRECTORY.sub("…/", without_credentials(value))
    if isinstance(value, dict):
        return {
            str(key): "[secret]" if isinstance(item, str) and _SECRET_KEY.search(str(key)) else _redacted(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_redacted(item, secrets) for item in value]
    return value
