"""Norms that keep less say what transformers' own say, and hand the same gradient on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from align.gpu import norms
from align.gpu.logps import sequence_logps
from tests.align.test_layout import MODELS, ROWS, close, gradients, load


def through(norm: nn.Module, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, and the gradients of input and weight."""
    x = x.clone().requires_grad_()
    y = norm(x)
    weight = norm.weight
    assert isinstance(weight, Tensor)
    of_x, of_weight = torch.autograd.grad((y.float() * slope).sum(), (x, weight))
    return y.detach(), of_x, of_weight


def test_a_norm_gives_the_same_bits_and_keeps_its_input_and_a_number_a_row() -> None:
    made: Any = LlamaRMSNorm
    plain, light = made(48), made(48)
    torch.manual_seed(0)
    for one in (plain, light):
        torch.nn.init.normal_(one.weight, generator=torch.Generator().manual_seed(1))
    vars(light)["forward"] = norms._Forward(light)
    x, slope = torch.randn(2, 9, 48), torch.randn(2, 9, 48)
    expected, found = through(plain, x, slope), through(light, x, slope)
    assert torch.equal(found[0], expected[0])
    for mine, theirs in zip(found[1:], expected[1:], strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda _: None):
        light(x.requires_grad_())
    assert sorted(kept) == [18, 48, x.numel()]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(light(x), expected[0].bfloat16())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("kind", MODELS)
def test_models_have_the_values_and_gradients_that_they_have_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mode: str, precision: str
) -> None:
    found = []
    for light in (True, False):
        with monkeypatch.context() as patched:
            if not light:
                patched.setattr(norms, "BEFORE", {"none"})
            policy = load(kind, tmp_path / "base", mode=mode, precision=precision, rank=4)
        forwards = [type(vars(module).get("forward")) for module in policy.model.modules()]
        whole = mode == "full" or precision == "fp32"  # a frozen base in bf16 keeps its own norms
        assert (norms._Forward in forwards) == (light and whole)
        values = sequence_logps(policy, ROWS)
        found.append((values.detach(), gradients(policy, values.sum())))
    assert torch.equal(found[0][0], found[1][0])
    close(found[0][1], found[1][1], within=1e-5 if precision == "fp32" else 2e-2)


def test_norms_of_another_kind_stay_as_they_are() -> None:
    made: Any = Gemma2RMSNorm
    assert not norms._plain(made(16))
    assert not norms._plain(nn.LayerNorm(16))

    class Shifted(LlamaRMSNorm):  # type: ignore[misc]
        def forward(self, hidden_states: Tensor) -> Tensor:
            return super().forward(hidden_states) * (1 + 1e-6)  # type: ignore[no-any-return]

    shifted: Any = Shifted
    assert not norms._plain(shifted(16))
