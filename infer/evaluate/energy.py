"""Reads how much energy this machine's devices have used so far: GPUs by NVML, else processors by RAPL, else not."""

import ctypes
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
Reader = Callable[[], float | None]


class EnergyMeter:
    """Reads a counter of joules that only rises; `source` names it, or says why there is none.

    What it counts is of the whole device, whoever uses it.
    """

    def __init__(self, accelerator: bool, powercap: Path = POWERCAP):
        """Takes whether the models run on a GPU, whose counter is then read, and not the processors'."""
        self.source, self._read = _nvml() if accelerator else _rapl(powercap)

    def joules(self) -> float | None:
        """Returns the joules used since some fixed moment; None where nothing counts them."""
        return self._read()


def _nothing() -> None:
    """Reads no counter."""
    return None


def _nvml() -> tuple[str, Reader]:
    """Returns the sum of all GPUs' counters, in mJ by nvmlDeviceGetTotalEnergyConsumption (Volta and newer)."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint()
        if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return "NVML can't be started", _nothing
    except (OSError, AttributeError):
        return "no NVML: libnvidia-ml.so.1 is not there", _nothing
    handles = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0:
            handles.append(handle)

    def read() -> float | None:
        total = 0
        for handle in handles:
            millijoules = ctypes.c_ulonglong()
            if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
                return None
            total += millijoules.value
        return total / 1e3

    if not handles or read() is None:
        return "NVML counts no energy of this GPU", _nothing
    return "NVML, all GPUs", read


def _rapl(powercap: Path) -> tuple[str, Reader]:
    """Returns the sum of all processor packages' counters, in µJ, which start again at their range's end."""
    files = sorted(powercap.glob("intel-rapl:?/energy_uj"))
    try:
        ranges = [float((file.parent / "max_energy_range_uj").read_text()) for file in files]
        last = [float(file.read_text()) for file in files]
    except PermissionError:
        return "RAPL's counters can be read by root alone", _nothing
    except (OSError, ValueError):
        files = []
    if not files:
        return "no RAPL: this machine shows no processor's energy", _nothing
    total = 0.0

    def read() -> float | None:
        nonlocal total
        for i, file in enumerate(files):
            now = float(file.read_text())
            total += (now - last[i]) % ranges[i]
            last[i] = now
        return total / 1e6

    return "RAPL, all processor packages", read
