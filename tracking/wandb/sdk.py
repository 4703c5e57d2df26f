"""How the SDK is set up here: nothing of the machine is sent, nothing waits without an end."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracking.interface import TrackingError
from tracking.wandb.place import Place

if TYPE_CHECKING:
    import wandb

T = TypeVar("T")

# Seconds that a job waits for W&B at its end, uploads apart. One that hangs longer than 60 s is broken.
PATIENCE = float(os.environ.get("EDGEWISE_WANDB_PATIENCE", "45"))
REQUEST_TIMEOUT = max(1, round(PATIENCE / 3))  # seconds for a request
RUN_TIMEOUT = max(1, round(PATIENCE / 2))  # seconds for the start or the end of a run, uploads apart
UPLOAD_RATE = 2e6  # bytes a second: an upload that is slower is given up, and is then still to be pushed

_STARTING = threading.Lock()  # the SDK's service process is one for all threads


class Unreachable(TrackingError):
    """The server did not answer, or not as it should."""


def settings(place: Place, folder: Path) -> "wandb.Settings":
    """Fresh settings of one run (`init` changes what it is given); the SDK's own files go to `folder`."""
    import wandb

    retries: dict[str, Any] = {}
    for client in ("graphql", "file_stream", "file_transfer"):
        retries[f"x_{client}_retry_max"] = 2
        retries[f"x_{client}_retry_wait_min_seconds"] = 0.5
        retries[f"x_{client}_retry_wait_max_seconds"] = 5.0
    return wandb.Settings(
        base_url=place.base_url or wandb.setup().settings.base_url,
        root_dir=str(folder),
        # nothing of the machine, the code's place or the terminal
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_disable_viewer=True,
        x_save_requirements=False,
        disable_git=True,
        disable_code=True,
        save_code=False,
        console="off",
        host="",
        program="",
        silent=True,
        # an end to all waiting
        init_timeout=RUN_TIMEOUT,
        finish_timeout=RUN_TIMEOUT,
        finish_timeout_raises=True,
        x_graphql_timeout_seconds=REQUEST_TIMEOUT,
        x_file_stream_timeout_seconds=REQUEST_TIMEOUT,
        x_file_stream_transmit_interval=2.0,
        reinit="create_new",
        **retries,
    )


def prepare() -> None:
    """Once in a process, before anything else of the SDK: no reports of errors to its makers, no prompt, no chatter."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    with _STARTING:
        import wandb

        # its service process too, which on a busy machine takes longer to start than a server may take to answer
        wandb.setup(wandb.Settings(silent=True, login_timeout=1)).ensure_service()


def api(place: Place) -> "wandb.Api":
    """The public API of a place. Raises Unreachable without an API key."""
    prepare()
    import wandb

    overrides = {key: value for key, value in (("base_url", place.base_url), ("entity", place.entity)) if value}
    try:
        return wandb.Api(overrides | {"project": place.project}, timeout=REQUEST_TIMEOUT)
    except Exception as error:  # of many kinds, and none tells more than its text
        if "did not respond in time" in str(error):
            raise Unreachable(f"W&B, {place}: no answer in {REQUEST_TIMEOUT} s") from error
        advice = "set WANDB_API_KEY, or log in with `wandb login`"
        raise Unreachable(f"W&B, {place}: {told(error).rstrip('.')}: {advice}") from error


def within(seconds: float, call: Callable[[], T], what: str) -> T:
    """What the call returns. Raises Unreachable when it has not returned in time; it is then left to itself."""
    result: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            result.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not result:
        raise Unreachable(f"{what}: no answer in {seconds:.0f} s")
    return result[0]


def upload_seconds(size: int) -> float:
    """How long an upload, or a download, of so many bytes may take."""
    return RUN_TIMEOUT + size / UPLOAD_RATE


def told(error: BaseException) -> str:
    """An error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def plain(value: Any) -> Any:
    """A value of the SDK's as JSON values; NaN and infinities, which W&B writes as words, are numbers again."""
    if isinstance(value, str):
        return float(value) if value in ("NaN", "Infinity", "-Infinity") else value
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
