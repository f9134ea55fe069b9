"""The models an engine holds at once: a base, LoRA adapters on it, and further full weights.

Adapters share the base's memory and are switched on for one step at a time. A name never changes
what it stands for: loading over a name is refused, and weights that a running generation uses stay
until it ends. Not thread-safe: only the engine's worker thread calls it.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import math
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedTokenizerBase

from align.gpu import batch, steady
from align.gpu import model as models
from align.gpu.sibling import same_files, sibling

PRECISIONS = ("auto", "fp32", "bf16")
DEBUT = 16  # steps: who loads a model waits to hear a word from it


class Unknown(ValueError):
    """A model name that is not served."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The model `{name}` does not exist.")


def dtype(precision: str, place: torch.device) -> torch.dtype:
    """Of weights, products and what is kept of each token; choices and log-probabilities are fp32
    in any case. "auto" is bf16 on a GPU, and on a CPU that multiplies it faster than fp32.

    Raises ValueError for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision}")
    can: Mapping[str, Any] = torch.cpu.get_capabilities()
    fast = place.type == "cuda" or any(can.get(one) for one in ("amx_bf16", "avx512_bf16"))
    half = precision == "bf16" or (precision == "auto" and fast)
    return torch.bfloat16 if half else torch.float32


@dataclass
class Resident:
    """A served name. `slot` is the adapter's name inside PEFT; None for full weights."""

    name: str
    path: Path
    model: Any
    tokenizer: PreTrainedTokenizerBase
    slot: str | None = None
    parent: str | None = None
    users: int = 0  # generations that have not ended
    alone: str | None = None  # why its requests cannot share a batch
    debut: int = 0  # steps in which it goes before others, until its first answer has ended
    took: Mapping[str, float] = field(default_factory=dict)  # seconds until it was read, verified


class Residents:
    def __init__(
        self, name: str, path: Path, max_length: int | None = None, precision: str = "auto"
    ) -> None:
        """max_length: the most tokens a request has, the model's own limit unless given.
        precision: of weights and products, see `dtype`. Raises ValueError when the folder is
        refused or does not load."""
        self._place = models.device()
        self._dtype = dtype(precision, self._place)
        self._max_length = max_length
        self.base = self._load_full(name, path)
        self._served = {name: self.base}
        self._leaving: list[Resident] = []
        self._peft: PeftModel | None = None
        self._slots = (f"a{i}" for i in itertools.count())
        self._active: str | None = None  # slot switched on in the base

    def all(self) -> list[Resident]:
        return list(self._served.values())

    def get(self, name: str) -> Resident:
        if name not in self._served:
            raise Unknown(name)
        return self._served[name]

    def serves(self, resident: Resident) -> bool:
        return self._served.get(resident.name) is resident

    def load(self, name: str, path: Path, sha256: str | None = None) -> None:
        """Serve an adapter of the base, or a folder of full weights, under a new name."""
        if (path / "adapter_config.json").is_file():
            self._check_free(name)
            self._served[name] = self._load_adapter(name, path)
        else:
            self.add(self.read(name, path, sha256))

    def add(self, resident: Resident) -> None:
        """Serve what `read` has read."""
        self._check_free(resident.name)
        self._served[resident.name] = resident

    def read(self, name: str, path: Path, sha256: str | None = None) -> Resident:
        """A folder of full weights, to be served under a new name, once every byte of it has been
        hashed. Changes nothing here, so any thread may call it while requests run on what is
        served. sha256: of the manifest it must have. Raises ValueError for any other folder."""
        self._check_free(name)
        base = self.base
        begun = time.monotonic()
        with ThreadPoolExecutor(1) as pool:  # hashing and reading, side by side
            checked = pool.submit(models.check_folder, path, sha256)
            twin = sibling(base.model, base.path, path)
            took = {"read": time.monotonic() - begun}
            checked.result()
            took["verified"] = time.monotonic() - begun
        if twin is None:
            return self._load_full(name, path)
        if base.alone is None:
            batch.adopt(twin)
        known = same_files(base.path, path, "*token*") and same_files(base.path, path, "*.jinja")
        tokenizer = base.tokenizer if known else models.load_tokenizer(path)
        alone = base.alone
        return Resident(name, path, twin, tokenizer, alone=alone, debut=DEBUT, took=took)

    def _check_free(self, name: str) -> None:
        if name in self._served:
            raise ValueError(f"the name {name!r} is taken; unload it or choose another")

    def unload(self, name: str) -> None:
        """Stop serving a name; its memory is freed when the last generation on it has ended."""
        gone = self.get(name)
        if gone is self.base:
            raise ValueError("the base model cannot be unloaded")
        del self._served[name]
        self._leaving.append(gone)
        self.sweep()

    def sweep(self) -> None:
        """Free what was unloaded and is no longer in use."""
        for gone in [one for one in self._leaving if not one.users]:
            self._leaving.remove(gone)
            if gone.slot is not None:
                self._discard(gone.slot)

    @property
    def asleep(self) -> bool:
        return self.base.model is None

    def sleep(self) -> None:
        """Let go of all weights; names and what they stand for stay. Nothing may be running."""
        for resident in (*self._served.values(), *self._leaving):
            resident.model = resident.slot = None
        self._peft = self._active = None
        gc.collect()  # a model's modules refer to one another
        if self._place.type == "cuda":
            torch.cuda.empty_cache()
        elif trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # glibc would keep what was freed for itself

    def wake(self) -> None:
        """Load them again. What is gone from the disk is served no longer; ValueError if that is
        the base."""
        self._restore(self.base)
        for resident in [one for one in self.all() if one is not self.base]:
            try:
                self._restore(resident)
            except ValueError as error:
                print(f"{resident.name} is served no longer: {error}", file=sys.stderr)
                del self._served[resident.name]

    def _restore(self, resident: Resident) -> None:
        """The same resident, since requests that wait refer to it."""
        if resident.parent is None:
            fresh = self._load_full(resident.name, resident.path)
        else:
            fresh = self._load_adapter(resident.name, resident.path)
        resident.model, resident.slot, resident.alone = fresh.model, fresh.slot, fresh.alone

    def ready(self, resident: Resident) -> Any:
        """The transformers model to run one step of, with the right adapter switched on."""
        if resident.slot is not None or resident is self.base:
            self._switch(resident.slot)
        return resident.model

    def _load_full(self, name: str, path: Path) -> Resident:
        model = models.load_base(path, self._place, self._dtype).eval()
        tokenizer = models.load_tokenizer(path)
        longest = min(self._max_length or math.inf, model.config.max_position_embeddings)
        alone = batch.prepare(model, longest, tokenizer)
        return Resident(name, path, model, tokenizer, alone=alone)

    def _load_adapter(self, name: str, path: Path) -> Resident:
        models.check_adapter(path)
        slot = next(self._slots)
        try:
            if self._peft is None:
                config = LoraConfig.from_pretrained(str(path))
                self._peft = PeftModel(
                    self.base.model, config, adapter_name=slot, autocast_adapter_dtype=False
                )
            loaded = self._peft.load_adapter(
                str(path), adapter_name=slot, autocast_adapter_dtype=False
            )
            if loaded.unexpected_keys:
                raise ValueError(f"{loaded.unexpected_keys[0]} has no place in the model")
        except (RuntimeError, OSError, ValueError) as error:
            self._discard(slot)
            raise ValueError(f"{path} is no adapter of {self.base.name}: {error}") from error
        self._peft.requires_grad_(False)
        self._peft.eval()
        if self.base.alone is None:
            steady.steady(self.base.model)
        self._active = slot
        self._switch(None)
        base = self.base
        return Resident(
            name, path, base.model, base.tokenizer, slot=slot, parent=base.name, alone=base.alone
        )

    def _discard(self, slot: str) -> None:
        """Forget an adapter, whole or half-loaded; the base answers as if it had never been."""
        if self._peft is not None and slot in self._peft.peft_config:
            self._active = slot  # whatever was on, switch all off
            self._switch(None)
            self._peft.delete_adapter(slot)

    def _switch(self, slot: str | None) -> None:
        if slot == self._active or self._peft is None:
            return
        tuner: Any = self._peft.base_model
        if slot is None:
            tuner.disable_adapter_layers()
        else:
            if self._active is None:
                tuner.enable_adapter_layers()
            tuner.set_adapter(slot)
        self._active = slot
