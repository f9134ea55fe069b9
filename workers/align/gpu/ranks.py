"""Several processes that train one model together: FSDP2 under torchrun, by NCCL or by gloo.

Each rank holds a slice of every parameter, of its gradient and of AdamW's state, and takes its
share of a step's examples; gradients are added up in fp32 and divided by nothing, so a step is the
one that a single process takes, up to rounding. Rank 0 alone writes events, folders and the result.
Started as one process, nothing here is more than a comparison.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from align import run, tether
from align.gpu import checkpoint

TIMEOUT = timedelta(minutes=30)  # of a rank that waits for another; writing weights is that long
LOST = 76  # exit status of a rank that another one left alone

T = TypeVar("T")


class Idle(list[int]):
    """A micro-batch of a rank that has none left: computed to keep step with the others', and
    counted for nothing."""


class _Whole(nn.Module):
    """What FSDP takes for a model's forward: whatever is computed with the model at one go."""

    def __init__(self, *models: nn.Module) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, work: Callable[[], T]) -> T:
        return work()


@dataclass
class Ranks:
    """This process among those that train together. All methods but `through` of one process are
    called by all ranks in the same order, or none returns."""

    rank: int = 0
    size: int = 1
    whole: Any = None  # _Whole and FSDPModule, once the model is sharded
    group: Any = None  # a dist.ProcessGroup, where it is not the one of all that is computed

    @property
    def leads(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    def beside(self) -> Ranks:
        """The same ranks for a thread of its own, which talks while the others compute."""
        if self.size == 1:
            return self
        return replace(self, group=dist.new_group(backend="gloo", timeout=TIMEOUT))

    def gather(self, value: Any) -> list[Any]:
        """What every rank says, in order of rank; JSON's types only."""
        if self.size == 1:
            return [value]
        said = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(said)]), self.group)
        longest = max(int(size) for size in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(said)] = said
        found = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded, self.group)
        return [
            json.loads(one[: int(size)].numpy().tobytes())
            for one, size in zip(found, sizes, strict=True)
        ]

    def first(self, value: Any) -> Any:
        """What rank 0 says."""
        return self.gather(value if self.leads else None)[0]

    def any(self, flag: bool) -> bool:
        """Whether it holds on some rank."""
        return flag if self.size == 1 else any(self.gather(flag))

    def joined(self, tensor: Tensor) -> Tensor:
        """All ranks' rows (N, ...), one rank's after the other's; for few of them."""
        if self.size == 1:
            return tensor
        found = [row for rows in self.gather(tensor.tolist()) for row in rows]
        return torch.tensor(found, dtype=tensor.dtype, device=tensor.device)

    def added(self, tensor: Tensor) -> Tensor:
        """The sum over ranks of a tensor on the CPU, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def agree(self, what: str, value: Any) -> None:
        """Raises ValueError where ranks do not start from the same thing."""
        for rank, other in enumerate(found := self.gather(value)):
            if other != found[0]:
                raise ValueError(f"rank {rank} has other {what} than rank 0")

    def parts(
        self,
        batch: Sequence[int],
        tokens: Sequence[int],
        prompts: Sequence[int],
        cut: Callable[[Sequence[int]], list[list[int]]],
    ) -> list[list[int]]:
        """This rank's micro-batches of a batch: as many as any other's, because each is a forward
        and a backward that all ranks make together."""
        if self.size == 1:
            return cut(batch)
        cuts = [cut(share) for share in deal(batch, tokens, prompts, self.size)]
        mine = cuts[self.rank]
        idle = Idle([min(batch, key=lambda index: tokens[index])])
        return mine + [idle] * (max(map(len, cuts)) - len(mine))

    def shard(self, model: nn.Module, *heads: nn.Module) -> None:
        """Cut parameters into slices, in place: a layer at a time is whole while it is used."""
        if self.size == 1:
            return
        place = next(model.parameters()).device.type
        mesh = init_device_mesh(place, (self.size,))
        self.whole = _Whole(model, *heads)
        named = (getattr(m, "_no_split_modules", None) for m in model.modules())
        kinds = {name for names in named for name in names or ()}
        layers = [m for m in model.modules() if type(m).__name__ in kinds]
        for unit in (*layers, self.whole):
            fully_shard(unit, mesh=mesh)
            sliced = cast(FSDPModule, unit)
            # Each rank's loss is its part of the whole mean already: gradients are only added up.
            sliced.set_gradient_divide_factor(1.0)
            sliced.set_force_sum_reduction_for_comms(True)
        # FSDP looks once at what learns, at the first forward; that one may have adapters off.
        self.whole(lambda: None)
        self.whole.reshard()

    def through(self, work: Callable[[], T]) -> T:
        """What `work` returns, the model's forward in it; tensors in it may be a tuple's."""
        if self.whole is None:
            return work()
        found: T = self.whole(work)
        if not torch.is_grad_enabled():  # else the backward does it
            self.whole.reshard()
        return found

    def state(self, model: nn.Module) -> dict[str, Tensor] | None:
        """What `save_pretrained` needs to be given, on the CPU of rank 0: a LoRA model's adapter,
        or all there is. None where the model itself will do, and on other ranks."""
        if self.size == 1:
            return None
        named = dict(model.named_parameters(remove_duplicate=False))
        adapts = any(not p.requires_grad for p in named.values())
        found: dict[str, Tensor] = {}
        seen: dict[int, Tensor] = {}  # tied parameters stay tied
        for name, p in named.items():
            if adapts and not p.requires_grad:
                continue
            if id(p) not in seen:
                seen[id(p)] = full(p.detach())
                seen[id(p)] = seen[id(p)].cpu() if self.leads else torch.empty(0)
            found[name] = seen[id(p)]
        if not adapts:
            found |= {n: b for n, b in model.state_dict().items() if n not in named}
        return found if self.leads else None

    def commit(
        self, folder: Path, write: Callable[[Path], None], metadata: Mapping[str, Any]
    ) -> checkpoint.Manifest:
        """`checkpoint.commit` of what all ranks write into the one folder, each its own files; a
        rank that dies meanwhile leaves the previous state."""
        if self.size == 1:
            return checkpoint.commit(folder, write, metadata)
        described: dict[str, Any] = {}
        if self.leads:

            def all_write(stray: Path) -> None:
                self.first(str(stray))
                write(stray)
                self.gather("written")

            described = asdict(checkpoint.commit(folder, all_write, metadata))
        else:
            write(Path(self.first(None)))
            self.gather("written")
        return checkpoint.Manifest(**self.first(described))


def deal(
    batch: Sequence[int], tokens: Sequence[int], prompts: Sequence[int], hands: int
) -> list[list[int]]:
    """A batch in shares of like work: the longest first, each to whom has least.

    prompts: a number for each example. Examples of one prompt stay together, because it is computed
    once for them, unless there are fewer prompts than shares.
    """
    groups: dict[int, list[int]] = {}
    for index in batch:
        groups.setdefault(prompts[index], []).append(index)
    hand_out = list(groups.values()) if len(groups) >= hands else [[index] for index in batch]
    work = [sum(tokens[index] for index in group) for group in hand_out]
    shares: list[list[int]] = [[] for _ in range(hands)]
    load = [0] * hands
    for at in sorted(range(len(hand_out)), key=lambda at: (-work[at], hand_out[at])):
        least = load.index(min(load))
        shares[least] += hand_out[at]
        load[least] += work[at]
    return shares


def full(tensor: Tensor) -> Tensor:
    """All of a tensor whose slices ranks hold; itself, where it is whole."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def mine(tensor: Tensor) -> Tensor:
    """This rank's slice of a tensor; itself, where it is whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(model: Tensor, part: Tensor) -> Tensor:
    """This rank's slice as part of a tensor that is sliced as `model` is."""
    if not isinstance(model, DTensor) or part.dim() == 0:
        return part
    return DTensor.from_local(
        part.to(model.device), model.device_mesh, model.placements,
        run_check=False, shape=model.shape, stride=model.stride(),
    )  # fmt: skip


def rows(tensor: Tensor, rank: int, size: int) -> tuple[int, int]:
    """Where this rank's slice begins and ends in a whole tensor's first dimension."""
    length = len(tensor)
    step = -(-length // size)
    return min(rank * step, length), min((rank + 1) * step, length)


def here() -> Ranks:
    """The ranks that this process is one of."""
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def main(work: Callable[[run.Run], Mapping[str, Any]]) -> None:
    """`align.run.main`, by one process or as one of those that torchrun starts."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        run.main(work)
        return
    tether.die_with_parent(os.getppid(), signal.SIGKILL)
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(dist.get_node_local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=TIMEOUT)
    status: object = 0
    try:
        take_part(work)
        dist.barrier()  # nobody leaves while another one still reads from it
    except SystemExit as stop:
        status = stop.code
    except Exception:
        traceback.print_exc()
        status = 1
    # Gloo's threads may abort a process that is taken down piece by piece.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def take_part(work: Callable[[run.Run], Mapping[str, Any]], argv: list[str] | None = None) -> None:
    """`align.run.main` of one rank: the first holds the run directory, the others follow it. One
    that finds another one gone says so and ends with the status LOST."""
    try:
        run.main(work, argv, holding=run.hold if here().leads else run.follow)
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        print(f"This rank lost another one: {error}", file=sys.stderr)
        sys.exit(LOST)
    finally:
        # The agent ends those who are left; a rank that ends by itself keeps its own status.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
