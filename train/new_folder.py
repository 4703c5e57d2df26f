"""Makes a folder where the person says, which appears whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conf.errors import EdgewiseError, first_line, no_room


def check_free(directory: Path) -> None:
    """Raises EdgewiseError unless `directory` can be a new folder's name, or is an empty folder's.

    The folder that the command runs in is refused too: whoever stands in it would not see what takes its place.
    """
    try:
        taken = directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        here = os.path.realpath(directory) == os.path.realpath(os.curdir)
    except OSError as error:
        raise _unusable(directory, error) from None
    if taken:
        raise EdgewiseError(f"{directory} is there already: expected a folder that doesn't exist yet, or an empty one")
    if here:
        raise EdgewiseError(
            f"{directory} is the folder that the command runs in: expected the name of another one, such as "
            f"{directory / 'model'}"
        )


@contextmanager
def new_folder(directory: Path) -> Iterator[Path]:
    """Yields a folder to write to, which gets the name `directory` at the end; a link is followed.

    Where something is raised, what was written is removed. Raises EdgewiseError as `check_free` does, and for what the
    file system refuses.
    """
    check_free(directory)
    target = Path(os.path.realpath(directory))
    unfinished = target.with_name(f".unfinished-{uuid.uuid4().hex[:8]}")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        os.replace(unfinished, target)
    except OSError as error:
        raise no_room(error) or _unusable(directory, error) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unusable(directory: Path, error: OSError) -> EdgewiseError:
    """Returns the error that says why a folder can't be made."""
    return EdgewiseError(
        f"{directory} can't be made ({first_line(error)}): expected the name of a new folder, in one that can be "
        "written to; give another name"
    )
