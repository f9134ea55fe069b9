"""New weights for a model that is in memory already, ready in a fraction of a second.

transformers takes its time to build a model and to look for what might differ; where the
configuration is the one of a model that is loaded, only the tensors are read, from mapped files,
into an empty twin. Whatever is not exactly so is left to the ordinary way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import GenerationConfig

# What a configuration says of its file, and not of the model.
PASSING = {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache"}
ALIGNED = 64  # bytes: a cache line, and a vector register


def sibling(model: Any, home: Path, folder: Path) -> Any | None:
    """A model of the weights in `folder`, in the precision of `model`, which was loaded from
    `home`; None if it is another architecture or its tensors are not those of this one."""
    if not (folder / "config.json").is_file() or _configuration(folder) != _configuration(home):
        return None
    with torch.device("meta"):
        twin = type(model)(model.config)
    try:
        tensors = {
            name: tensor
            for file in sorted(folder.glob("*.safetensors"))
            for name, tensor in read_tensors(file, model.dtype)
        }
        twin.load_state_dict(tensors, strict=False, assign=True)
    except (SafetensorError, OSError, RuntimeError):
        return None
    twin.tie_weights()
    _copy_constants(model, twin)
    if any(one.is_meta for one in (*twin.parameters(), *twin.buffers())):
        return None
    if (folder / "generation_config.json").is_file():
        twin.generation_config = GenerationConfig.from_pretrained(str(folder))
    twin.requires_grad_(False)
    return twin.to(model.device).eval()


def same_files(home: Path, folder: Path, pattern: str) -> bool:
    """Whether both folders hold the same files of a kind."""
    ours, theirs = ({one.name: one for one in place.glob(pattern)} for place in (home, folder))
    return ours.keys() == theirs.keys() and all(
        ours[name].read_bytes() == theirs[name].read_bytes() for name in ours
    )


def _configuration(folder: Path) -> dict[str, Any]:
    fields = json.loads((folder / "config.json").read_text())
    return {name: value for name, value in fields.items() if name not in PASSING}


def read_tensors(file: Path, dtype: torch.dtype) -> list[tuple[str, Tensor]]:
    """A file's tensors, in `dtype`. Where they are of one kind, the file is converted in one go:
    threads that share a conversion wait for one another at its end, and on a busy machine a
    hundred such ends take seconds."""
    with safe_open(file, "pt") as source:  # which refuses what is no safetensors file
        names = source.keys()
        kinds = {source.get_tensor(name).dtype for name in names}
        entries, start = _header(file)
        if len(kinds) != 1 or not _in_line(entries, dtype.itemsize / next(iter(kinds)).itemsize):
            return [(name, source.get_tensor(name).to(dtype, copy=True)) for name in names]
    kind = kinds.pop()
    raw = torch.from_file(str(file), size=file.stat().st_size, dtype=torch.uint8)
    flat = raw[start:].view(kind).to(dtype, copy=True)
    made = []
    for name, entry in entries.items():
        begin, end = (offset // kind.itemsize for offset in entry["data_offsets"])
        made.append((name, flat[begin:end].view(entry["shape"])))
    return made


def _header(file: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file holds, by name, and at which byte it begins."""
    with file.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        entries = json.loads(source.read(length))
    entries.pop("__metadata__", None)
    return entries, 8 + length


def _in_line(entries: Mapping[str, Any], scale: float) -> bool:
    """Whether tensors, their offsets times `scale`, begin where kernels like them to."""
    return all(entry["data_offsets"][0] * scale % ALIGNED == 0 for entry in entries.values())


def _copy_constants(model: nn.Module, twin: nn.Module) -> None:
    """Buffers that no file holds, such as the frequencies of rotary embeddings."""
    known = dict(model.named_buffers())
    for name, buffer in list(twin.named_buffers()):
        if buffer.is_meta and name in known:
            owner, _, last = name.rpartition(".")
            setattr(twin.get_submodule(owner), last, known[name].clone())
