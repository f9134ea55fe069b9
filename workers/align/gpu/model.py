"""Language models on disk: what may be loaded, how, and how the trained result is written.

A policy is a folder of full weights, with or without a PEFT LoRA adapter on top. Folders that
carry code or pickles are refused before anything is read, remote code is never trusted, and a
folder with a manifest is verified. Dropout is off everywhere (`eval()`), training included.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from align import jobs, model_folder
from align.gpu import checkpoint, layout
from align.gpu.data import Exchange
from align.gpu.layout import Layout
from align.gpu.lora import quicken
from align.gpu.norms import lighten
from align.gpu.packing import why_padded
from align.gpu.recompute import recompute
from align.jobs import ModelRef, Weights

SMALL = 20_000_000  # parameters
PIECES = 8  # files that full weights are saved in, so that they are hashed and read side by side
LEAST_PIECE = 64 << 20  # bytes, below which one file it is


@dataclass
class Policy:
    """A causal language model in memory: what it was loaded from, and its tokenizer.

    padded: why its rows are padded instead of packed; None where they are packed. half: whether
    matrix products are in bf16. adapter: which of the model's adapters it is, where others share
    that model (`beside`): it is switched to for each pass.
    """

    ref: ModelRef
    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    padded: str | None = "nobody tried to pack them"
    half: bool = False
    adapter: str | None = None

    @property
    def causal(self) -> Any:
        """The transformers model itself; an adapter's layers are already inside it."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def backbone(self) -> nn.Module:
        """The model below its head: token ids -> hidden states (B, T, H)."""
        return cast(nn.Module, getattr(self.causal, self.causal.base_model_prefix))

    def lay(
        self, rows: Sequence[Exchange], *, ends: bool = False, beside: Policy | None = None
    ) -> Layout:
        """Rows as one input; packed, where this model (and the one beside it) takes that."""
        longest = max(len(row) for row in rows)
        both = [self] if beside is None else [self, beside]
        packs = all(one.padded is None and longest <= one.window for one in both)
        return (layout.pack if packs else layout.pad)(rows, self.device, ends=ends)

    def hidden(self, given: Layout) -> Tensor:
        """What the head reads, (T, H) or, row-major, (S * T, H)."""
        packed = {"position_ids": given.positions, "spans": given.spans} if given.spans else {}
        # A packed row's spans stand in for its mask; a 4D mask is one that no model tries to make.
        mask = given.ids.new_ones(1, 1, 1, 1) if given.spans else given.mask
        if self.adapter not in (None, getattr(self.model, "active_adapter", None)):
            cast(Any, self.model).set_adapter(self.adapter, inference_mode=True)
        with self.precision():
            output = self.backbone(
                input_ids=given.ids, attention_mask=mask, use_cache=False, **packed
            )
        return cast(Tensor, output.last_hidden_state.flatten(0, 1))

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (N, H) -> fp32 logits (N, V)."""
        return cast(Tensor, self.causal.get_output_embeddings()(hidden).float())

    @property
    def vocabulary(self) -> int:
        """Entries of the head's output."""
        return int(self.causal.config.get_text_config().vocab_size)

    @property
    def head_learns(self) -> bool:
        """Whether a parameter of the head wants a gradient, tied to the embeddings or not."""
        return any(p.requires_grad for p in self.causal.get_output_embeddings().parameters())

    @property
    def window(self) -> float:
        """How far any of its layers sees, in tokens."""
        return getattr(self.causal.config.get_text_config(), "sliding_window", None) or math.inf

    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters being trained, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Matrix products in bf16, or all in fp32; reductions are fp32 in either case."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)


def say(policy: Policy, log: Callable[[str], None]) -> None:
    """Tell where a model is computed with more work than others."""
    if policy.padded is not None:
        log(f"rows are padded, and prompts computed once per answer: {policy.padded}")


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def deterministic(seed: int) -> None:
    """Seed torch; on a CPU also insist on kernels that repeat bit for bit."""
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)  # gradients of pairs long learnt: 1e-40, and 6 times as slow
    torch.use_deterministic_algorithms(not torch.cuda.is_available())
    # Nothing here reads memory before it wrote it; to fill it all first costs 3 to 6 %.
    cast(Any, torch.utils.deterministic).fill_uninitialized_memory = False


def check_folder(folder: Path, sha256: str | None = None) -> checkpoint.Manifest | None:
    """Refuse a model or adapter folder that could run code or is not what was committed.

    sha256: of the manifest it must have. Raises ValueError naming the file. Returns the manifest
    if the folder has one.
    """
    model_folder.check(folder)
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ValueError(f"{folder} holds no config.json or adapter_config.json")
    has_manifest = (folder / checkpoint.MANIFEST).is_file()
    return checkpoint.verify(folder, sha256) if has_manifest or sha256 else None


def load_tokenizer(base: Path) -> PreTrainedTokenizerBase:
    """Raises ValueError when the folder has no tokenizer or no chat template, or one that does
    more than write a prompt."""
    model_folder.check_templates(base)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(base), local_files_only=True, trust_remote_code=False
        )
    except OSError as error:
        raise ValueError(f"{base} holds no tokenizer that loads: {error}") from error
    if not tokenizer.chat_template:
        raise ValueError(f"the tokenizer of {base} has no chat template")
    return cast(PreTrainedTokenizerBase, tokenizer)


def load(
    ref: ModelRef, *, train_adapter: bool = False, full: bool = False, precision: str = "auto"
) -> Policy:
    """The policy behind `ref`, frozen unless told otherwise.

    train_adapter: the adapter's matrices stay trainable. full: the adapter, if any, is merged and
    every weight is trainable (kept in fp32). precision: see `align.jobs.Weights`. Raises ValueError
    for folders that are refused.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ValueError(f"precision must be auto, fp32 or bf16, not {precision}")
    place = device()
    half = precision == "bf16" or (precision == "auto" and place.type == "cuda")
    dtype = torch.bfloat16 if half and not full else torch.float32
    base = load_base(Path(ref.base), place, dtype)
    model: PreTrainedModel | PeftModel = base
    model.requires_grad_(False)
    if ref.adapter is not None:
        model = _add_adapter(base, Path(ref.adapter), "default", train=train_adapter)
        if full:
            model = cast(PreTrainedModel, cast(Any, model).merge_and_unload())
    if full:
        model.requires_grad_(True)
    model.eval()
    policy = Policy(ref, model, load_tokenizer(Path(ref.base)), place, half=half)
    _check_head(policy)
    return replace(policy, padded=why_padded(policy))


def load_base(folder: Path, place: torch.device, dtype: torch.dtype | None = None) -> Any:
    """A folder's causal model without adapter; fp32 on a CPU and bf16 on CUDA unless given.

    On a CPU a small model takes one thread for the whole process: a second one costs more than it
    brings, and results then do not depend on how many cores there are. Raises ValueError when the
    folder is refused, or its weights are not all there.
    """
    check_folder(folder)
    cast(Any, transformers).logging.disable_progress_bar()  # a log file is no place for it
    if dtype is None:
        dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    try:
        model, found = cast(Any, AutoModelForCausalLM).from_pretrained(
            str(folder),
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no model that loads: {error}") from error
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{folder} lacks the weights of {missing[0]} ({len(missing)} missing)")
    if place.type == "cpu" and model.num_parameters() < SMALL:
        torch.set_num_threads(1)
    return model.to(place)


def start(ref: ModelRef, weights: Weights) -> Policy:
    """The policy a round trains, at its start: equal to `ref`, bit for bit.

    "lora" goes on training the adapter of `ref` in its own shape, or adds a fresh one whose
    product is zero. "full" trains every weight. Call `deterministic` first.
    """
    if weights.mode == "full":
        policy = load(ref, full=True, precision=weights.precision)
    elif ref.adapter is not None:
        policy = load(ref, train_adapter=True, precision=weights.precision)
    else:
        policy = load(ref, precision=weights.precision)
        policy = replace(policy, model=add_lora(policy.causal, weights))
    lighten(policy.causal)
    if weights.activation_checkpointing:
        recompute(policy.causal)
    return policy


def add_lora(model: Any, weights: Weights) -> PeftModel:
    """Fresh LoRA matrices (arXiv:2106.09685) on all linear layers but the head."""
    config = LoraConfig(
        r=weights.rank,
        lora_alpha=weights.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    adapted.eval()
    quicken(adapted)
    return cast(PeftModel, adapted)


@contextlib.contextmanager
def acting_as(policy: Policy, ref: ModelRef) -> Iterator[Policy]:
    """A frozen policy equal to `ref`, out of `policy`'s own memory where that is possible.

    `policy` must still be at its start weights. The same ref is the model as it stands; its bare
    base is the model with adapters off; another adapter is put beside its own for the time being.
    Anything else is loaded separately and freed.
    """
    if ref == policy.ref:
        yield policy
    elif not isinstance(policy.model, PeftModel) or ref.base != policy.ref.base:
        yield load(ref, precision="bf16" if policy.half else "fp32")
    elif ref.adapter is None:
        with policy.model.disable_adapter():
            yield policy
    else:
        _add_adapter(policy.model, Path(ref.adapter), "other", train=False)
        policy.model.set_adapter("other")
        policy.model.eval()
        try:
            yield policy
        finally:
            policy.model.set_adapter("default")
            policy.model.delete_adapter("other")


def beside(host: Policy, ref: ModelRef) -> Policy:
    """The frozen policy behind `ref`, in the memory of `host`, a frozen one, where both are
    adapters of one base; else loaded by itself. Raises ValueError as `load` does."""
    if not isinstance(host.model, PeftModel) or ref.adapter is None or ref.base != host.ref.base:
        return load(ref, precision="bf16" if host.half else "fp32")
    host.adapter = host.adapter or "default"
    name = f"beside-{len(host.model.peft_config)}"
    _add_adapter(host.model, Path(ref.adapter), name, train=False).eval()
    return replace(host, ref=ref, adapter=name)


def save(policy: Policy, folder: Path, state: dict[str, Tensor] | None = None) -> None:
    """Write what PEFT and vLLM load unmodified: an adapter, or full weights and tokenizer.

    state: the weights by name, where the model in memory holds but slices of them. The bytes depend
    on the weights only, so that equal training gives equal hashes.
    """
    policy.model.save_pretrained(str(folder), **_saving(policy), state_dict=state)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card template
    config = folder / "adapter_config.json"
    if config.is_file():
        fields = json.loads(config.read_text())
        fields["base_model_name_or_path"] = policy.ref.base
        fields["target_modules"] = sorted(fields["target_modules"])  # PEFT writes a set's order
        jobs.write_json(config, dict(sorted(fields.items())))
    else:
        policy.tokenizer.save_pretrained(str(folder))


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    return hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()


def check_adapter(folder: Path) -> None:
    """`check_folder`, and refuse anything that is not a plain LoRA adapter."""
    check_folder(folder)
    config = folder / "adapter_config.json"
    if not config.is_file():
        raise ValueError(f"{folder} holds no adapter_config.json")
    kind = json.loads(config.read_text()).get("peft_type")
    if kind != "LORA":
        raise ValueError(f"{config} is a {kind} adapter; only LORA adapters are loaded")


def _add_adapter(model: Any, folder: Path, name: str, *, train: bool) -> PeftModel:
    """Put an adapter on a model, or beside the one it has. Raises ValueError if it does not fit."""
    check_adapter(folder)
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), name, is_trainable=train)
        else:
            model = PeftModel.from_pretrained(model, str(folder), name, is_trainable=train)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} is no adapter of this model: {error}") from error
    wanted = set(get_peft_model_state_dict(model, adapter_name=name))
    with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
        found = set(tensors.keys())
    if odd := sorted(wanted ^ found):
        what = "has no place in the model" if odd[0] in found else "is not in the adapter"
        raise ValueError(f"{folder} is no adapter of this model: {odd[0]} {what}")
    quicken(model)
    return cast(PeftModel, model)


@torch.no_grad()
def _check_head(policy: Policy) -> None:
    """Refuse architectures whose logits are not their head on their last hidden state."""
    ids = torch.arange(4, device=policy.device)[None]  # (1, 4)
    with policy.precision():
        hidden = cast(Any, policy.backbone)(input_ids=ids, use_cache=False).last_hidden_state
        ours, theirs = policy.logits(hidden), policy.causal(input_ids=ids, use_cache=False).logits
    if not theirs.isfinite().all():
        raise ValueError("the model's logits are no numbers: its weights are spoilt")
    if not torch.allclose(ours, theirs.float(), rtol=1e-2, atol=1e-2):
        name = type(policy.causal).__name__
        raise ValueError(f"{name} changes its logits after the head, which is not supported")


def _saving(policy: Policy) -> dict[str, Any]:
    """What `save_pretrained` is told."""
    if isinstance(policy.model, PeftModel):
        return {"save_embedding_layers": False}
    size = sum(one.numel() * one.element_size() for one in policy.model.parameters())
    return {"max_shard_size": max(LEAST_PIECE, size // PIECES)}
