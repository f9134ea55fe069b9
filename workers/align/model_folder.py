"""What a model's folder may hold: weights as safetensors, settings as JSON, a tokenizer; nothing
that runs, and no head of a file that takes the memory of whoever reads it.

Looked at before any library reads the folder: such libraries have imported what they found there
though they were told not to (CVE-2026-22807). Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from align import chat_template

CODE = (".py", ".pyc", ".pyo", ".pyd", ".so", ".dylib", ".dll", ".sh", ".exe", ".whl", ".egg")
PICKLES = (
    *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".hdf5", ".keras", ".msgpack"),
    *(".gguf", ".ggml", ".npy", ".npz", ".joblib", ".dill", ".nemo", ".mar", ".tar", ".zip", ".gz"),
)
# How such files begin, whatever they are called.
BEGINNINGS = (b"PK\x03\x04", b"GGUF", b"\x7fELF", b"\x1f\x8b", b"\x89HDF", b"\x93NUMPY", b"MZ")
RUNS = ("auto_map", "auto_mapping", "megatron_config", "custom_pipelines")
LONGEST_HEAD = 16 << 20  # bytes of a safetensors file's head; a thousand experts need some 10 MB
MOST_TENSORS = 200_000
LONGEST_JSON = 128 << 20  # a large vocabulary's tokenizer.json has some 30 MB
WORDS = ("tokenizer.json", "vocab.json", "added_tokens.json")  # large, and of data alone
LONGEST_TEMPLATE = 256 << 10


def check(folder: Path) -> None:
    """Raises ValueError with a sentence that names the first file that is refused, and why."""
    if not _there(folder):
        raise ValueError(f"{str(folder)[:300]!r} is not a folder on this machine")
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        _check_place(path, root)
        if path.is_dir():
            continue
        if path.suffix.lower() in CODE:
            raise ValueError(f"{path} is code; model folders with code are refused")
        if path.suffix.lower() in PICKLES:
            raise ValueError(f"{path} may be a pickle; only safetensors weights are loaded")
        if path.suffix.lower() == ".safetensors":
            head(path)
        else:
            _check_beginning(path)
        if path.suffix.lower() == ".json":
            _check_json(path)


def _there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError:  # a name that is too long, a folder that may not be read
        return False


def check_templates(folder: Path) -> None:
    """Try the folder's chat templates where they can do no harm. Raises ValueError with what they
    did."""
    for where, template in templates(folder):
        if len(template) > LONGEST_TEMPLATE:
            raise ValueError(f"{where} is longer than 256 KiB; no chat template is")
        try:
            chat_template.check(template)
        except ValueError as error:
            raise ValueError(f"{where} is refused: {error}") from None


def head(path: Path) -> dict[str, Any]:
    """The head of a safetensors file: each tensor's type, shape and place. Raises ValueError."""
    with path.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        if length > LONGEST_HEAD:
            raise ValueError(f"{path} has a head of {length:,} bytes, more than {LONGEST_HEAD:,}")
        raw = source.read(length)
    if raw.count(b'"data_offsets"') > MOST_TENSORS:
        raise ValueError(f"{path} has more than {MOST_TENSORS:,} tensors")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no safetensors file")
    return found


def templates(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every chat template in the folder, with the file it stands in."""
    for path in sorted(folder.rglob("*.jinja")):
        yield path, path.read_text(encoding="utf-8", errors="replace")
    for path in sorted(folder.rglob("*.json")):
        if path.name in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
            fields = _json(path)
            given = fields.get("chat_template") if isinstance(fields, dict) else None
            listed = given if isinstance(given, list) else [{"template": given}]
            for one in listed:
                if isinstance(one, dict) and isinstance(one.get("template"), str):
                    yield path, one["template"]


def _check_place(path: Path, root: Path) -> None:
    """A link leads to another file of the folder or to the store of a hub's cache it lies in."""
    if not path.is_symlink():
        if not path.is_dir() and not path.is_file():
            raise ValueError(f"{path} is neither a file nor a folder")
        return
    to = path.resolve()
    store = root.parent.parent / "blobs"
    if not (to.is_file() and (to.is_relative_to(root) or to.is_relative_to(store))):
        raise ValueError(f"{path} is a link that leads out of the model's folder")


def _check_beginning(path: Path) -> None:
    with path.open("rb") as source:
        first = source.read(16)
    pickled = first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if pickled or first.startswith(BEGINNINGS):
        raise ValueError(f"{path} is a pickle, a program or an archive under another name")


def _check_json(path: Path) -> None:
    if path.stat().st_size > LONGEST_JSON:
        raise ValueError(f"{path} is larger than {LONGEST_JSON:,} bytes")
    if path.name in WORDS:
        return
    pending = [_json(path)]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            for key in RUNS:
                if one.get(key):
                    raise ValueError(f"{path} has {key}, which runs code; it is refused")
            pending += one.values()
        elif isinstance(one, list):
            pending += [item for item in one if isinstance(item, (dict, list))]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not readable JSON") from None
