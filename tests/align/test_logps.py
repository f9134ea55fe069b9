"""Log-probabilities: the textbook sum, whatever the padding, the chunking or the precision path."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from align.gpu import data, model, vocabulary
from align.gpu.logps import sequence_logps
from align.jobs import ModelRef, Weights

ROWS = [
    data.Exchange((1, 4, 20, 21, 5), (40, 41, 42, 2)),
    data.Exchange((1, 4, 22, 5), (43, 2)),
    data.Exchange((1, 4, 20, 21, 23, 24, 5), (44, 45, 46, 47, 48, 49, 2)),
]


@pytest.fixture(scope="module")
def policy(tiny_base: Path) -> model.Policy:
    return model.load(ModelRef(base=str(tiny_base)))


def textbook(policy: model.Policy, row: data.Exchange) -> float:
    """One sequence alone, all logits, float64 sums."""
    ids = torch.tensor([row.prompt + row.response])
    with torch.no_grad():
        logits = policy.causal(ids).logits.double().log_softmax(-1)[0]
    at = len(row.prompt)
    return sum(logits[at + k - 1, token].item() for k, token in enumerate(row.response))


def test_it_is_the_sum_over_response_tokens_with_the_end_of_turn(policy: model.Policy) -> None:
    with torch.no_grad():
        found = sequence_logps(policy, ROWS)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([textbook(policy, row) for row in ROWS], rel=1e-5)


def test_the_company_of_a_row_changes_nothing(policy: model.Policy) -> None:
    with torch.no_grad():
        alone = [sequence_logps(policy, [row]).item() for row in ROWS]
        assert sequence_logps(policy, [*ROWS, *ROWS]).tolist() == pytest.approx(alone * 2, rel=1e-5)


def test_the_order_of_rows_changes_nothing(policy: model.Policy) -> None:
    with torch.no_grad():
        straight = sequence_logps(policy, ROWS)
        turned = sequence_logps(policy, ROWS[::-1])
    assert torch.allclose(straight, turned.flip(0), rtol=1e-5)


def test_chunks_change_neither_values_nor_gradients(
    policy: model.Policy, monkeypatch: pytest.MonkeyPatch, tiny_base: Path
) -> None:
    def run(chunk: int) -> tuple[Tensor, Tensor]:
        monkeypatch.setattr(vocabulary, "CHUNK", {"cpu": chunk})
        monkeypatch.setattr(vocabulary, "KEPT", 1)
        trained = model.load(ModelRef(base=str(tiny_base)), full=True)
        values = sequence_logps(trained, ROWS)
        values.sum().backward()
        gradient = trained.causal.get_output_embeddings().weight.grad
        assert gradient is not None
        return values.detach(), gradient

    (whole, gradient), (parts, gradients) = run(2**24), run(800)
    assert torch.allclose(whole, parts, rtol=1e-6)
    assert torch.allclose(gradient, gradients, rtol=1e-4, atol=1e-6)


def test_the_head_gets_gradient_from_response_tokens_only(tiny_base: Path) -> None:
    policy = model.load(ModelRef(base=str(tiny_base)), full=True)
    seen: list[int] = []
    head = policy.causal.get_output_embeddings()
    head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    sequence_logps(policy, ROWS)
    assert seen == [sum(len(row.response) for row in ROWS)]


def test_the_end_of_turn_token_carries_gradient_and_the_prompt_none(tiny_base: Path) -> None:
    policy = model.load(ModelRef(base=str(tiny_base)), full=True)
    row = data.Exchange((1, 4, 20, 5), (40, 2))
    sequence_logps(policy, [row]).sum().backward()
    gradient = policy.causal.get_output_embeddings().weight.grad
    assert gradient is not None
    # Targets are pulled up (negative entries along the hidden state dominate the softmax's push).
    strength = gradient.norm(dim=1)
    for target in (40, 2):
        assert strength[target] > 10 * strength[20]
        assert strength[target] > 10 * strength[4]


def test_dropout_is_off_even_while_training(tiny_base: Path) -> None:
    policy = model.start(ModelRef(base=str(tiny_base)), Weights())
    assert not any(module.training for module in policy.model.modules())


def test_adapters_off_is_the_base_and_merging_is_the_adapter(
    tiny_base: Path, adapter: Path, policy: model.Policy
) -> None:
    ref = ModelRef(base=str(tiny_base), adapter=str(adapter))
    adapted, merged = model.load(ref), model.load(ref, full=True)
    with torch.no_grad():
        bare = sequence_logps(policy, ROWS)
        tuned = sequence_logps(adapted, ROWS)
        assert torch.allclose(sequence_logps(merged, ROWS), tuned, rtol=1e-4)
        assert not torch.allclose(tuned, bare, rtol=1e-3)
        with model.acting_as(adapted, ModelRef(base=str(tiny_base))) as off:
            assert torch.equal(sequence_logps(off, ROWS), bare)
