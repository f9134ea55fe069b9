"""The models an engine holds at once: a base, LoRA adapters on it, and further full weights.

Adapters share the base's memory and are switched on for one step at a time. A name never changes
what it stands for: loading over a name is refused, and weights that a running generation uses stay
until it ends. Not thread-safe: only the engine's worker thread calls it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedTokenizerBase

from align.gpu import model as models

SMALL = 20_000_000  # parameters; below this a second thread costs more than it brings


class Unknown(ValueError):
    """A model name that is not served."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The model `{name}` does not exist.")


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


class Residents:
    def __init__(self, name: str, path: Path) -> None:
        """Raises ValueError when the folder is refused or does not load."""
        self._place = models.device()
        base = models.load_base(path, self._place).eval()
        if self._place.type == "cpu" and base.num_parameters() < SMALL:
            torch.set_num_threads(1)
        self.base = Resident(name, path, base, models.load_tokenizer(path))
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

    def load(self, name: str, path: Path) -> None:
        """Serve an adapter of the base, or a folder of full weights, under a new name."""
        if name in self._served:
            raise ValueError(f"the name {name!r} is taken; unload it or choose another")
        if (path / "adapter_config.json").is_file():
            self._served[name] = self._load_adapter(name, path)
        else:
            full = models.load_base(path, self._place).eval()
            self._served[name] = Resident(name, path, full, models.load_tokenizer(path))

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

    def ready(self, resident: Resident) -> Any:
        """The transformers model to run one step of, with the right adapter switched on."""
        if resident.slot is not None or resident is self.base:
            self._switch(resident.slot)
        return resident.model

    def _load_adapter(self, name: str, path: Path) -> Resident:
        models.check_adapter(path)
        slot = next(self._slots)
        try:
            if self._peft is None:
                config = LoraConfig.from_pretrained(str(path))
                self._peft = PeftModel(self.base.model, config, adapter_name=slot)
            loaded = self._peft.load_adapter(str(path), adapter_name=slot)
            if loaded.unexpected_keys:
                raise ValueError(f"{loaded.unexpected_keys[0]} has no place in the model")
        except (RuntimeError, OSError, ValueError) as error:
            self._discard(slot)
            raise ValueError(f"{path} is no adapter of {self.base.name}: {error}") from error
        self._peft.requires_grad_(False)
        self._peft.eval()
        self._active = slot
        self._switch(None)
        return Resident(
            name, path, self.base.model, self.base.tokenizer, slot=slot, parent=self.base.name
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
