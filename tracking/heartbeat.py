"""Shows that a run's process lives while the run logs nothing: a thread writes the run's sign of life now and then.

A compilation, an evaluation or a long scoring logs nothing for minutes; on another host only the heartbeat tells such a
run from one whose machine is gone (`tracking.process.is_alive`).
"""

import os
import socket
import threading
import time

from tracking.database import Database

BEAT = 20.0  # seconds between two signs of life: many of them before a run counts as dead
_AGAIN = 5.0  # seconds until the next try where the database did not take one
_PATIENCE = 1.0  # seconds for which a sign of life waits for the database, and the run's own writes with it

# Held while a sign of life is written: a process that is forked meanwhile would inherit SQLite's locks for good.
_BEATING = threading.Lock()
os.register_at_fork(before=_BEATING.acquire, after_in_parent=_BEATING.release, after_in_child=_BEATING.release)


class Heartbeat:
    """Writes the heartbeat of a run of this process from now on, until `stop`, the run's end or the process's.

    A forked child has no part in it. What keeps a sign of life from being written is not reported here: the run's own
    writes will meet it.
    """

    def __init__(self, database: Database, run_id: str) -> None:
        self._stopped, self._pid = threading.Event(), os.getpid()
        arguments = (database, run_id, self._stopped)
        self._thread = threading.Thread(target=_beat, args=arguments, name=f"heartbeat of {run_id}", daemon=True)
        self._thread.start()

    def stop(self, *, wait: bool = False) -> None:
        """Ends it, and with `wait` waits until a sign of life that is being written is; a second call does nothing."""
        if self._pid == os.getpid():  # a forked child may have inherited the event's lock, held
            self._stopped.set()
            if wait:
                self._thread.join(2 * _PATIENCE)


def _beat(database: Database, run_id: str, stopped: threading.Event) -> None:
    # Only while the run is this process's: not after its end, and not when another process has taken it over.
    owner = (run_id, socket.gethostname(), os.getpid())
    pause = BEAT
    while not stopped.wait(pause) and database.is_open:
        try:
            with _BEATING, database.write(durable=False, patience=_PATIENCE) as connection:
                query = "UPDATE runs SET heartbeat = ? WHERE id = ? AND host = ? AND pid = ? AND state = 'running'"
                if not connection.execute(query, (time.time(), *owner)).rowcount:
                    return
            pause = BEAT
        except Exception:  # busy, or without room: the next try may find it otherwise
            pause = min(_AGAIN, BEAT)
