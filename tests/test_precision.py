"""--precision auto: bfloat16 where the hardware has it."""
import keras
import pytest

from Network.training import precision
from Network.training.precision import cpu_has_bfloat16, resolve_precision
from Network.training.settings import Settings
from Network.training.step import prepare

X86 = "processor\t: 0\nmodel name\t: made up bf16\nflags\t\t: fpu sse2 avx2{}\nbugs\t\t: spectre_v1\n\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd{}\nCPU part\t: 0xd40\n\n"


@pytest.mark.parametrize("cpuinfo, native", [
    (X86.format(""), False), (X86.format(" avx512f avx512_bf16"), True), (X86.format(" amx_bf16 amx_tile"), True),
    (X86.format(" avx512_bf16x"), False), (X86.format(" avx512_bf16") + X86.format(""), False),
    (ARM.format(""), False), (ARM.format(" i8mm bf16"), True), ("", False)])
def test_auto_reads_the_cpus_flags(tmp_path, monkeypatch, cpuinfo, native):
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    assert cpu_has_bfloat16(file) is native
    monkeypatch.setattr(precision, "CPUINFO", file)
    expected = "mixed_bfloat16" if native else "float32"
    assert resolve_precision("auto", None) == expected
    prepare(Settings())
    assert keras.config.dtype_policy().name == expected


def test_without_a_cpuinfo_it_is_float32(tmp_path):
    assert cpu_has_bfloat16(tmp_path / "nowhere") is False


def test_a_gpu_decides_before_the_cpu():
    assert resolve_precision("auto", True) == "mixed_bfloat16"
    assert resolve_precision("auto", False) == "float32"


@pytest.mark.parametrize("chosen", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_what_was_asked_for_is_kept(chosen):
    assert resolve_precision(chosen, True) == resolve_precision(chosen, None) == chosen
