# ruff: noqa: N802 - the names are those of the library it stands for
"""Stands for the module of nvidia-ml-py on a machine without a GPU: two cards, no driver.

Put this folder on PYTHONPATH, and a daemon shows two cards. Their figures stay as they are, but
for the energy: it grows with time, as fast as the power of the card.
"""

import time
from typing import Final, NamedTuple

NVML_ERROR_UNINITIALIZED: Final = 1
NVML_ERROR_NOT_SUPPORTED: Final = 3
NVML_ERROR_LIBRARY_NOT_FOUND: Final = 12
NVML_ERROR_FUNCTION_NOT_FOUND: Final = 13
NVML_ERROR_GPU_IS_LOST: Final = 15
NVML_TEMPERATURE_GPU: Final = 0

_TEXTS: Final = {
    NVML_ERROR_UNINITIALIZED: "Uninitialized",
    NVML_ERROR_NOT_SUPPORTED: "Not Supported",
    NVML_ERROR_LIBRARY_NOT_FOUND: "NVML Shared Library Not Found",
    NVML_ERROR_FUNCTION_NOT_FOUND: "Function Not Found",
    NVML_ERROR_GPU_IS_LOST: "GPU is lost",
}
_BEGAN: Final = time.monotonic()


class NVMLError(Exception):
    """What every function raises; `value` is the code of NVML."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return _TEXTS[self.value]


class _Handle(NamedTuple):
    uuid: str
    name: str
    utilization_percent: int
    used_bytes: int
    total_bytes: int
    temperature_celsius: int
    power_milliwatts: int
    first_energy_millijoules: int


class _Utilization(NamedTuple):
    gpu: int
    memory: int


class _Memory(NamedTuple):
    total: int
    free: int
    used: int


CARDS: Final = (
    _Handle(
        uuid="GPU-00000000-0000-4000-8000-000000000000",
        name="NVIDIA H100 80GB HBM3",
        utilization_percent=87,
        used_bytes=64 << 30,
        total_bytes=80 << 30,
        temperature_celsius=61,
        power_milliwatts=612_500,
        first_energy_millijoules=5_000_000_000,
    ),
    _Handle(
        uuid="GPU-00000000-0000-4000-8000-000000000001",
        name="NVIDIA L4",
        utilization_percent=0,
        used_bytes=512 << 20,
        total_bytes=24 << 30,
        temperature_celsius=34,
        power_milliwatts=16_250,
        first_energy_millijoules=750_000,
    ),
)

_started = 0


def nvmlInit() -> None:
    """Begin; as often as it is called, so often `nvmlShutdown` has to be."""
    global _started
    _started += 1


def nvmlShutdown() -> None:
    """End."""
    global _started
    _check_started()
    _started -= 1


def nvmlDeviceGetCount() -> int:
    """How many cards there are."""
    _check_started()
    return len(CARDS)


def nvmlDeviceGetHandleByIndex(index: int) -> _Handle:
    """What all other functions take for a card."""
    _check_started()
    return CARDS[index]


def nvmlDeviceGetUUID(handle: _Handle) -> str:
    """A name of the card that no other has."""
    return handle.uuid


def nvmlDeviceGetName(handle: _Handle) -> str:
    """The product."""
    return handle.name


def nvmlDeviceGetUtilizationRates(handle: _Handle) -> _Utilization:
    """Percent of time."""
    return _Utilization(gpu=handle.utilization_percent, memory=handle.utilization_percent // 2)


def nvmlDeviceGetMemoryInfo(handle: _Handle, version: int | None = None) -> _Memory:
    """Bytes."""
    free = handle.total_bytes - handle.used_bytes
    return _Memory(total=handle.total_bytes, free=free, used=handle.used_bytes)


def nvmlDeviceGetTemperatureV(handle: _Handle, sensor: int, version: int = 0x100000C) -> int:
    """Degrees Celsius."""
    return handle.temperature_celsius


def nvmlDeviceGetTemperature(handle: _Handle, sensor: int) -> int:
    """The same, in drivers that do not have the other yet."""
    return handle.temperature_celsius


def nvmlDeviceGetPowerUsage(handle: _Handle) -> int:
    """Milliwatts."""
    return handle.power_milliwatts


def nvmlDeviceGetTotalEnergyConsumption(handle: _Handle) -> int:
    """Millijoules since the driver was loaded: milliwatts times seconds."""
    grown = handle.power_milliwatts * (time.monotonic() - _BEGAN)
    return handle.first_energy_millijoules + int(grown)


def _check_started() -> None:
    if not _started:
        raise NVMLError(NVML_ERROR_UNINITIALIZED)
