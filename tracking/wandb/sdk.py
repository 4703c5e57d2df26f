"""Sets the SDK up: nothing of the machine is sent, and nothing waits without an end."""

import atexit
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from conf.errors import first_line
from tracking.interface import TrackingError
from tracking.staging import StagingDirectory
from tracking.wandb.project import WandbProject

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
    """Reports that the server did not answer, or not as it should."""


def run_settings(project: WandbProject, folder: Path) -> "wandb.Settings":
    """Returns fresh settings of one run (`init` changes what it is given); the SDK's own files go to `folder`."""
    import wandb

    retries: dict[str, Any] = {}
    for client in ("graphql", "file_stream", "file_transfer"):
        retries[f"x_{client}_retry_max"] = 2
        retries[f"x_{client}_retry_wait_min_seconds"] = 0.5
        retries[f"x_{client}_retry_wait_max_seconds"] = 5.0
    return wandb.Settings(
        base_url=server_address(project),
        root_dir=str(folder),
        # nothing of the machine, the checkout or the terminal
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


def start_service() -> None:
    """Starts the SDK's service process, before anything else of the SDK: no error reports to its makers, no prompt."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    with _STARTING:
        import wandb

        # its service process too, which on a busy machine takes longer to start than a server may take to answer
        try:
            service = wandb.setup(wandb.Settings(silent=True, login_timeout=1)).ensure_service()
        except Exception as error:  # of what WANDB_… variables say, too
            raise Unreachable(f"the W&B SDK does not start: {type(error).__name__}: {first_line(error)}") from error
        _limit_end(service)


_ENDING = threading.Event()  # is set when this process ends
_LIMITED: list[int] = []  # the service processes, by their ids, whose end is limited


def _limit_end(service: Any) -> None:
    """Has the SDK's service process killed where it does not end in time when this process does.

    At exit the SDK tells it to end and waits for that without a limit; where the server answers with errors that can be
    for ever.
    """
    with suppress(AttributeError):  # another version of the SDK, which keeps its process elsewhere
        process = service._proc._process
        if process.pid in _LIMITED:
            return
        _LIMITED.append(process.pid)
        atexit.unregister(_ENDING.set)
        atexit.register(_ENDING.set)  # runs before the SDK's own for this process, which was registered before
        threading.Thread(target=_kill_late, args=(process,), name="end of the W&B SDK", daemon=True).start()


def _kill_late(process: "subprocess.Popen[bytes]") -> None:
    """Waits for the end of this process, and then for RUN_TIMEOUT seconds for that of the service process."""
    _ENDING.wait()
    end = time.monotonic() + RUN_TIMEOUT
    while process.poll() is None:
        if time.monotonic() > end:
            process.kill()
            return
        time.sleep(0.05)


def restart_service() -> None:
    """Ends the SDK's service process, with all that it holds of runs, and starts another. Raises Unreachable."""
    import wandb

    with _STARTING:
        call_with_timeout(RUN_TIMEOUT, wandb.teardown, "the end of the W&B SDK's process")
    start_service()


def server_address(project: WandbProject) -> str:
    """Returns the base URL of the project's server; where it names none, the one that the SDK is set to."""
    if project.base_url is not None:
        return project.base_url
    import wandb

    return str(wandb.setup().settings.base_url)


_OWN_FILES: list[StagingDirectory] = []  # where the SDK keeps files of its own in this process


def keep_files_in(directory: StagingDirectory) -> None:
    """Has the SDK of this process keep its own files in a directory, which the process removes at its end.

    Among them are a directory for each run that is read, and some for the time of the import.
    """
    _OWN_FILES[:] = [directory]
    os.environ["WANDB_DIR"] = str(directory.path)
    before, tempfile.tempdir = tempfile.tempdir, str(directory.path)
    try:
        import wandb  # noqa: F401  # for what it makes when it is imported
    finally:
        tempfile.tempdir = before


def keep_files_below(staging: Path) -> None:
    """Does what `keep_files_in` does with a directory below `staging`, unless this process has one that is in use."""
    in_use = _OWN_FILES and _OWN_FILES[0].path.is_dir() and os.environ.get("WANDB_DIR") == str(_OWN_FILES[0].path)
    if not in_use:
        keep_files_in(StagingDirectory(staging))


def open_api(project: WandbProject, staging: Path) -> "wandb.Api":
    """Returns the public API of a project; the SDK's own files go below `staging`. Raises Unreachable."""
    keep_files_below(staging)
    start_service()
    import wandb

    overrides = {key: value for key, value in (("base_url", project.base_url), ("entity", project.entity)) if value}
    try:
        return wandb.Api(overrides | {"project": project.name}, timeout=REQUEST_TIMEOUT)
    except Exception as error:  # of many kinds, and none tells more than its text
        if "did not respond in time" in str(error):
            raise Unreachable(f"W&B, {project}: no answer in {REQUEST_TIMEOUT} s") from error
        advice = "set WANDB_API_KEY, or log in with `wandb login`"
        raise Unreachable(f"W&B, {project}: {first_line(error).rstrip('.')}: {advice}") from error


def call_with_timeout(seconds: float, call: Callable[[], T], subject: str) -> T:
    """Returns what the call returns. Raises Unreachable after `seconds`, naming the subject; the call is abandoned."""
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
        raise Unreachable(f"{subject}: no answer in {seconds:.0f} s")
    return result[0]


def upload_seconds(size: int) -> float:
    """Returns how many seconds an upload, or a download, of so many bytes may take."""
    return RUN_TIMEOUT + size / UPLOAD_RATE


# How W&B writes the numbers that JSON has not.
NUMBERS_AS_WORDS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def json_value(value: Any) -> Any:
    """Returns a value of the SDK's as JSON values; NaN and infinities, which W&B writes as words, are numbers again."""
    return _converted(value, lambda text: NUMBERS_AS_WORDS.get(text, text))


def plain_value(value: Any) -> Any:
    """Returns a value of the SDK's as JSON values; texts stay texts."""
    return _converted(value, lambda text: text)


def _converted(value: Any, convert_text: Callable[[str], Any]) -> Any:
    if isinstance(value, str):
        return convert_text(value)
    if hasattr(value, "items"):
        return {str(key): _converted(item, convert_text) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_converted(item, convert_text) for item in value]
    return value
