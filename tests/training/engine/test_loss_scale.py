import pytest
import torch

from openwit.training.engine.loss_scale import GROWTH_INTERVAL, INITIAL, LossScale
from openwit.training.engine.runtime import lowered_dtype


def test_it_halves_at_once_and_doubles_after_a_long_time() -> None:
    scale = LossScale(torch.device("cpu"))
    scale.update(torch.tensor(1.0))
    assert float(scale.value) == INITIAL / 2
    for _ in range(GROWTH_INTERVAL - 1):
        scale.update(torch.tensor(0.0))
    assert float(scale.value) == INITIAL / 2
    again = LossScale(torch.device("cpu"))
    again.restore(scale.state())
    for one in (scale, again):
        one.update(torch.tensor(0.0))
        assert float(one.value) == INITIAL


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_gpu_without_bf16_of_its_own_computes_in_fp16(native, dtype, monkeypatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    gpu = torch.device("cuda", 0)
    assert lowered_dtype(gpu, "auto") == dtype
    assert lowered_dtype(gpu, "bf16") == torch.bfloat16
    assert lowered_dtype(gpu, "fp32") is None
    assert lowered_dtype(torch.device("cpu"), "auto") is None
