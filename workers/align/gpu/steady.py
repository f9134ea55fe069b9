"""Linear layers whose rows come out the same, bit for bit, whatever rows are beside them.

A matrix product's kernel, and with it the order of its sums, depends on how many rows there are, so
requests that share a batch would change each other's last digits. Here a layer always multiplies
blocks of a few sizes, of which it was seen on this machine that they agree. The head's logits are
summed to fp32 digits even where weights are bf16: what rounding the sum to bf16 lost is computed by
a second product, whose accumulator starts at minus the first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# The smallest block; smaller ones are seldom faster. It fills two vector registers in any case, as
# torch's functions of single elements are other code for what is left over (exp, sigmoid).
ROWS = {torch.float32: 32, torch.bfloat16: 64}
LARGER = (128, 256, 512)
_agreed: dict[tuple[object, ...], tuple[int, ...]] = {}  # what `blocks` has found out


def steady(model: nn.Module, head: nn.Module | None = None) -> None:
    """Let the linear layers of a model compute so. Layers that do so already are left alone."""
    for module in model.modules():
        if type(module) is nn.Linear and "forward" not in vars(module):
            vars(module)["forward"] = _Forward(module, wide=module is head)


def undo(model: nn.Module) -> None:
    """Let them compute as they did before."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), _Forward):
            del vars(module)["forward"]


def padded(rows: int, dtype: torch.dtype) -> int:
    """A number of rows that fills whole blocks."""
    block = ROWS.get(dtype, 1)
    return -(-rows // block) * block


class _Forward:
    """The forward of one layer: (..., in) -> (..., out); fp32 where `wide`."""

    def __init__(self, layer: nn.Linear, *, wide: bool) -> None:
        self.layer = layer
        self.plain = layer.forward
        self.wide = wide

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        if torch.is_grad_enabled() or x.dtype != weight.dtype or x.dtype not in ROWS:
            return self.plain(x)
        rows = x.flatten(0, -2)  # (T, in)
        sizes = blocks(weight)
        out = _multiply(rows, weight, sizes)
        if self.wide and x.dtype == torch.bfloat16:
            out = out.float() + _multiply(rows, weight, sizes, -out).float()
        if bias is not None:
            out = out + bias
        return out.view(*x.shape[:-1], -1)


def _multiply(
    rows: Tensor, weight: Tensor, sizes: tuple[int, ...], less: Tensor | None = None
) -> Tensor:
    """rows (T, in) times weight (out, in), plus `less` (T, out), block by block."""
    count, across = len(rows), weight.t()
    whole = -(-count // sizes[0]) * sizes[0]
    if whole != count:
        rows = torch.cat([rows, rows.new_zeros(whole - count, rows.shape[1])])
        if less is not None:
            less = torch.cat([less, less.new_zeros(whole - count, less.shape[1])])
    out = rows.new_empty(whole, weight.shape[0])
    at = 0
    while at < whole:
        size = next(one for one in reversed(sizes) if one <= whole - at)
        cut = slice(at, at + size)
        if less is None:
            torch.mm(rows[cut], across, out=out[cut])
        else:
            torch.addmm(less[cut], rows[cut], across, out=out[cut])
        at += size
    return out[:count]


def blocks(weight: Tensor) -> tuple[int, ...]:
    """Sizes of blocks, ascending, whose rows are the same bits wherever in a block they stand;
    none where not even the smallest is so.

    Tried out on `weight` (out, in) for the first layer of each shape. Threads count too, since
    they share a product out among them.
    """
    key = (*weight.shape, weight.dtype, torch.get_num_threads())
    if key not in _agreed:
        _agreed[key] = _agreeing(weight)
    return _agreed[key]


@torch.inference_mode()
def _agreeing(weight: Tensor) -> tuple[int, ...]:
    smallest = ROWS[weight.dtype]
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(LARGER[-1], weight.shape[1], generator=draw).to(weight.dtype)
    small = _multiply(rows, weight, (smallest,))
    rest = _multiply(rows, weight, (smallest,), -small)
    if not torch.equal(small, _multiply(rows.roll(1, 0), weight, (smallest,)).roll(-1, 0)):
        return ()
    agree = [
        size
        for size in LARGER
        if torch.equal(small, _multiply(rows, weight, (size,)))
        and torch.equal(rest, _multiply(rows, weight, (size,), -small))
    ]
    return (smallest, *agree)


def unsteady(model: nn.Module) -> str | None:
    """Why a model's rows may depend on one another here; None if they do not."""
    for name, module in model.named_modules():
        if type(module) is nn.Linear:
            if module.weight.dtype not in ROWS or not blocks(module.weight):
                return f"products of {name} depend on what is computed beside them"
        elif not isinstance(module, nn.Embedding) and any(
            one.dim() > 1 for one in module.parameters(recurse=False)
        ):
            return f"{name} multiplies by matrices and is no plain linear layer"
    return None
