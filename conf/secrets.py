"""Replaces secrets in values: under keys that are named like one, in KEY=VALUE, and in addresses."""

import re
from typing import Any

REPLACEMENT = "[secret]"

_NAME = r"(?:(?:api|access|secret|private)[_-]?key|token|secret|password|passwd|credentials?)"
_KEY = re.compile(rf"(?:^|[_.-]){_NAME}$", re.IGNORECASE)
# As typed on a command line: hydra.job.env_set.HF_TOKEN=…, --api-key=…; up to a space or the end of what is quoted.
_ASSIGNMENT = re.compile(rf"""(?<![A-Za-z0-9])({_NAME}=)('[^']*'|"[^"]*"|[^\s,}}\]'"]+)""", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]*@")


def without_credentials(text: str) -> str:
    """Returns the text with the user name and password of each URL in it replaced."""
    return _CREDENTIALS.sub(f"{REPLACEMENT}@", text)


def is_secret_key(key: str) -> bool:
    """Returns whether a key is named like one of a secret: `token`, `HF_TOKEN`, `wandb.api_key`, `password`."""
    return _KEY.search(key) is not None


def without_secrets(value: Any) -> Any:
    """Returns the value with each secret in it replaced, at any depth.

    Secrets are texts under keys that are named like one, values of such keys in KEY=VALUE, and credentials in URLs.
    """
    if isinstance(value, str):
        return _ASSIGNMENT.sub(rf"\1{REPLACEMENT}", without_credentials(value))
    if isinstance(value, dict):
        return {
            key: REPLACEMENT if isinstance(item, str) and is_secret_key(str(key)) else without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    return value
