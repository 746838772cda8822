"""Which precision a training computes in: bfloat16 where the hardware multiplies it, else float32.

A CPU without bfloat16 instructions emulates them: a step of the thesis's network then takes four times as long as in
float32 (docs/archive/2026-11.md). No Keras here: each backend's step tests its GPUs.
"""
from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
#: flags of /proc/cpuinfo that name instructions for products of bfloat16: x86 ("flags"), Arm ("Features")
NATIVE = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def cpu_has_bfloat16(cpuinfo: Path | None = None) -> bool:
    """Whether every core that `cpuinfo` (CPUINFO) lists has bfloat16 instructions; False where it can't be read."""
    try:
        lines = (cpuinfo or CPUINFO).read_text(errors="replace").splitlines()
    except OSError:
        return False
    cores = [set(values.split()) for name, _, values in (line.partition(":") for line in lines)
             if name.strip() in ("flags", "Features")]
    return bool(cores) and all(flags & NATIVE for flags in cores)


def resolve_precision(precision: str, gpu_bfloat16: bool | None) -> str:
    """A Keras dtype policy for the setting `precision`: itself, or for "auto" mixed_bfloat16 or float32.

    gpu_bfloat16  whether all GPUs multiply bfloat16 natively; None where there is no GPU: the CPU decides
    """
    if precision != "auto":
        return precision
    return "mixed_bfloat16" if (cpu_has_bfloat16() if gpu_bfloat16 is None else gpu_bfloat16) else "float32"
