"""Finds out why W&B did not take something: from the SDK's error, its log, and one plain request of our own.

The SDK's errors often say no more than that time ran out. What the user can do depends on the cause.
"""

import base64
import http.client
import json
import netrc
import os
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from conf.errors import first_line
from conf.secrets import without_credentials

_OFFLINE_MODES = ("offline", "dryrun", "disabled")
_STATUS = re.compile(r"(?:HTTP|error|status:?|returned)\s+(\d{3})\b", re.IGNORECASE)
_TAKEN = re.compile(r"previously created and deleted|HTTP 409|error 409", re.IGNORECASE)


def offline_mode() -> str | None:
    """Returns why the SDK sends nothing at all, where WANDB_MODE says so; else None."""
    mode = os.environ.get("WANDB_MODE", "").lower()
    if mode not in _OFFLINE_MODES:
        return None
    return f"WANDB_MODE={mode} keeps the W&B SDK from sending: unset it, or set WANDB_MODE=online"


def api_key(base_url: str) -> str | None:
    """Returns the API key for a server: WANDB_API_KEY, else the password for its host in ~/.netrc; None without one."""
    if key := os.environ.get("WANDB_API_KEY"):
        return key
    host = urllib.parse.urlsplit(base_url).hostname
    for name in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            found = netrc.netrc(Path(name).expanduser()).authenticators(host or "") if name else None
        except (OSError, netrc.NetrcParseError):
            continue
        if found:
            return found[2]
    return None


def address_fault(base_url: str) -> str | None:
    """Returns why a text can be no server's base URL; None if it can."""
    try:
        parts = urllib.parse.urlsplit(base_url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0:
            return None
    except ValueError:  # a port that is no number
        pass
    address = without_credentials(base_url)
    return f"{address} is no address of a W&B server: expected one such as https://api.wandb.ai (tracking.base_url)"


def ask_plainly(base_url: str, seconds: float) -> str | None:
    """Returns what stands between this machine and W&B by one request without the SDK; None if nothing does.

    `seconds` is the time limit of the connection and of each read.
    """
    if (fault := address_fault(base_url)) is not None:
        return fault
    address = without_credentials(base_url)
    parts = urllib.parse.urlsplit(base_url)
    key = api_key(base_url)
    if key is None:
        if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):  # which the SDK alone can use
            return None
        return f"there is no API key for {address}: set WANDB_API_KEY, or log in with `wandb login`"
    netloc = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(
        f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}/graphql",
        data=json.dumps({"query": "query Viewer { viewer { id } }", "operationName": "Viewer"}).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(f"api:{key}".encode()).decode(),
        },
    )
    certificates = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=certificates)
        with urllib.request.urlopen(request, timeout=seconds, context=context) as answer:
            kind, body = answer.headers.get_content_type(), answer.read(1 << 16)
    except urllib.error.HTTPError as error:
        if error.headers.get_content_type() == "text/html" and error.code < 500:
            return f"{_html(address)} (status {error.code})"
        return _status_cause(error.code, address)
    except (OSError, http.client.HTTPException) as error:
        return _connection_cause(error, address, parts.hostname or "", seconds)
    try:
        viewer = json.loads(body)["data"]["viewer"]
    except (ValueError, KeyError, TypeError):
        return _html(address) if kind == "text/html" or body.lstrip()[:1] == b"<" else f"{address} answers no W&B query"
    return None if viewer else _status_cause(401, address)


def _connection_cause(error: Exception, address: str, host: str, seconds: float) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        return f"DNS knows no host {host}: check the network and the address {address} (tracking.base_url)"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"TLS: the certificate of {host} is not trusted ({reason.verify_message}): if a proxy or a private "
            "authority signs it, name its certificate in SSL_CERT_FILE and REQUESTS_CA_BUNDLE"
        )
    if isinstance(reason, ssl.SSLError):
        return f"TLS: no secure connection to {address} ({reason.reason}): is it https, or http?"
    if isinstance(reason, TimeoutError):
        return f"{address} gave no answer in {seconds:.0f} s"
    if isinstance(reason, ConnectionRefusedError):
        return f"{address} refuses connections: nothing listens there, or a firewall is in the way"
    return f"the connection to {address} broke: {first_line(reason) if isinstance(reason, Exception) else reason}"


def _html(address: str) -> str:
    return f"{address} answers with a web page (HTML), not as W&B's API: a login page, a proxy, or the wrong address"


def _status_cause(status: int, address: str) -> str:
    if status == 401:
        return f"{address} does not accept the API key: set WANDB_API_KEY, or log in with `wandb login`"
    if status == 403:
        return f"{address} refuses (403): the API key may not do this; ask the entity's owner, or name another entity"
    if status == 404:
        return f"{address} has nothing there (404): check the entity, the project and the address (tracking.base_url)"
    if status == 429:
        return f"{address} takes no more requests for now (429): try again later"
    if status >= 500:
        return f"{address} has an error of its own ({status}): try again later"
    return f"{address} answers with status {status}"


def cause_of(error: BaseException, address: str, logs: Path | None = None) -> str:
    """Returns an SDK's error in one line, with the cause that a status in its text or in its log below `logs` shows."""
    text = str(error)
    if is_taken_id(error):
        return f"the run's id is taken at W&B, by a run that was deleted there or another one ({first_line(error)})"
    status = _STATUS.search(text)
    code = int(status[1]) if status else _last_status(logs) if logs is not None else None
    line = first_line(error)
    return f"{_status_cause(code, without_credentials(address))} ({line})" if code and code >= 400 else line


def is_taken_id(error: BaseException) -> bool:
    """Returns whether W&B refused a run because its id is taken, by a run deleted there or by another one."""
    return _TAKEN.search(str(error)) is not None


def _last_status(logs: Path) -> int | None:
    """Returns the status of the last failed request in the SDK's newest log."""
    found = sorted(logs.rglob("debug-internal.log"), key=lambda path: path.stat().st_mtime)
    for line in reversed(found[-1].read_text("utf-8", "replace").splitlines() if found else []):
        if '"status":' in line and "HTTP error" in line:
            try:
                return int(json.loads(line)["status"])
            except (ValueError, KeyError, TypeError):
                continue
    return None
