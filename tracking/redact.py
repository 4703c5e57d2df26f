"""Takes out of what a run says of itself what must not leave this machine: absolute paths and secrets.

Artifacts' contents are not touched: they are made without paths, and their digests are their identity.
"""

import os
import re
from typing import Any

from conf.secrets import REPLACEMENT, without_secrets

# The directory part of an absolute path, POSIX or Windows. In an address (https://…) a slash follows a colon or another
# slash, and in `yes/no` a letter: those stay.
_DIRECTORY = re.compile(
    r"""(?<![\w/:.~)\]}])(?:~|[A-Za-z]:(?=[\\/]))?[\\/](?:[^\s/\\'",;:=]+[\\/])*(?=[^\s/\\'",;:=])"""
)
_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8  # characters: a shorter value of such a variable is likelier a word that occurs anyway


def redacted(value: Any) -> Any:
    """Returns the value with each absolute path cut to its last part and each secret replaced, at any depth.

    Secrets are what this process's environment holds in variables that are named like one, and what
    `conf.secrets.without_secrets` finds. Mapping keys become strings, as in JSON.
    """
    secrets = [
        text for name, text in os.environ.items() if _SECRET_VARIABLE.search(name) and len(text) >= _SHORTEST_SECRET
    ]
    return _redacted(without_secrets(value), sorted(secrets, key=len, reverse=True))


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REPLACEMENT)
        return _DIRECTORY.sub("…/", value)
    if isinstance(value, dict):
        return {str(key): _redacted(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(item, secrets) for item in value]
    return value
