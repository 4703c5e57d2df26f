"""Measures the processor time of a server's processes and of the process that sends the requests.

Unlike rates, processor time hardly depends on what else the machine does, and it shows what the sender takes from
servers that share its cores.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

PROCESSES = Path("/proc")  # Linux's: proc(5)


@dataclass(frozen=True)
class ProcessorTime:
    """Holds seconds of processor time, user's and kernel's: of the server's processes, and of this one."""

    server: float
    sender: float


async def measured_processor_time(server: int, warm: float, seconds: float) -> ProcessorTime:
    """Returns the processor time taken within `seconds`, which begin after `warm` seconds.

    `server` is the id of the process that leads the server's session.
    """
    await asyncio.sleep(warm)
    server_before, sender_before = session_seconds(server), time.process_time()
    await asyncio.sleep(seconds)
    return ProcessorTime(session_seconds(server) - server_before, time.process_time() - sender_before)


def session_seconds(leader: int, processes: Path = PROCESSES) -> float:
    """Returns the processor time so far of the processes that run in a session or descend from its leader, in seconds.

    Returns 0 where there is no /proc. A process that has ended counts where its parent has waited for it.
    """
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    found = {leader}
    for file in processes.glob("[0-9]*/stat"):
        try:
            # The second field, the command in brackets, may itself hold spaces and brackets.
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        process = int(file.parent.name)
        parents[process] = int(fields[1])
        # user's and kernel's, then those of children that were waited for
        seconds[process] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        if int(fields[3]) == leader:
            found.add(process)
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return sum(seconds.get(process, 0.0) for process in found)
