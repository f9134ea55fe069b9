"""A model's folder from the internet: what could run or swallow the host is refused by name before
any library reads it, and nothing of it has run."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from align import chat_template, model_folder
from plumbline.fleet import engine
from plumbline.policies import manifest, tensors

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m['content'] | trim }}</s>{% endfor %}"


class Canary:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def canary(tmp_path):
    """Whatever becomes of a folder, the file that its code would make is not there."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def folder(tmp_path) -> Path:
    """A whole small model, as safetensors."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (made / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    (made / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"auto_map": 1}}}))
    (made / "README.md").write_text("A model.")
    weights(
        made / "model.safetensors", {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    )
    return made


def weights(path: Path, head: dict | bytes, length: int | None = None) -> None:
    raw = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(4))


def pickled(canary: Path) -> bytes:
    return pickle.dumps(Canary(canary))


def test_a_plain_model_is_taken(folder):
    model_folder.check(folder)
    model_folder.check_templates(folder)


NAMES = [
    *("pytorch_model.bin", "PYTORCH_MODEL.BIN", "weights.pt", "model.pth", "last.ckpt", "a.pkl"),
    *("a.pickle", "model.gguf", "a.ggml", "a.npy", "a.npz", "a.joblib", "a.h5", "a.keras"),
    *("sub/adapter_model.bin", "sub/deep/optimizer.pt", "model.tar", "model.zip", "a.dill"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_is_refused_by_its_name(folder, canary, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(pickled(canary))
    with pytest.raises(ValueError, match=re.escape(name)):
        model_folder.check(folder)


@pytest.mark.parametrize(
    "name", ["weights", "LICENSE", "notes.txt", "model.jpg", "tokenizer.model"]
)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_under_another_name_is_refused(folder, canary, name, protocol):
    (folder / name).write_bytes(pickle.dumps(Canary(canary), protocol))
    with pytest.raises(ValueError, match="under another name"):
        model_folder.check(folder)


def test_an_archive_under_another_name_is_refused(folder, canary):
    """As torch.save writes them."""
    with zipfile.ZipFile(folder / "weights", "w") as archive:
        archive.writestr("archive/data.pkl", pickled(canary))
    with pytest.raises(ValueError, match="under another name"):
        model_folder.check(folder)


@pytest.mark.parametrize("name", ["modeling_x.py", "sub/a.PY", "a.so", "a.pyc", "setup.sh"])
def test_code_is_refused(folder, canary, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(f"import os\nos.system('touch {canary}')\n")
    with pytest.raises(ValueError, match="is code"):
        model_folder.check(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "processor_config.json"])
@pytest.mark.parametrize(
    "fields",
    [
        {"auto_map": {"AutoModel": "x--evil.Model"}},
        {"vision_config": {"auto_map": {"AutoModel": "x--evil.Model"}}},
        {"layers": [{"deep": {"auto_map": {"AutoModel": "evil.Model"}}}]},
        {"megatron_config": {"x": 1}},
    ],
)
def test_a_config_that_names_code_is_refused_however_deep(folder, file, fields):
    (folder / file).write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=f"{file} has .*runs code"):
        model_folder.check(folder)


def test_nested_json_is_refused_and_not_followed(folder):
    (folder / "config.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ValueError, match="not readable JSON"):
        model_folder.check(folder)


@pytest.mark.parametrize("length", [100_000_000, 1 << 40, (1 << 64) - 1])
def test_a_head_that_says_it_is_huge_is_refused_unread(folder, length):
    weights(folder / "model.safetensors", b"{}", length)
    for read in (model_folder.check, tensors.shapes):
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            read(folder)


def test_a_head_of_a_hundred_megabytes_is_refused(folder):
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 100_000_000))
        file.truncate(100_000_008)
    with pytest.raises(ValueError, match="head of 100,000,000 bytes"):
        model_folder.check(folder)


def test_a_million_tensors_are_refused(folder):
    one = '"%d":{"data_offsets":[]}'
    raw = ("{" + ",".join(one % k for k in range(300_000)) + "}").encode()
    weights(folder / "model.safetensors", raw)
    assert len(raw) < model_folder.LONGEST_HEAD, "refused for its tensors, not its length"
    with pytest.raises(ValueError, match="more than 200,000 tensors"):
        model_folder.check(folder)
    weights(folder / "model.safetensors", b"{" + b'"a":{"data_offsets":[]},' * 1_000_000)
    with pytest.raises(ValueError, match="head of|more than 200,000 tensors"):
        model_folder.check(folder)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 50_000])
def test_a_head_that_is_none_is_refused(folder, raw):
    weights(folder / "model.safetensors", raw)
    with pytest.raises(ValueError, match="is no safetensors file"):
        model_folder.check(folder)


@pytest.mark.parametrize("name", ["config.json", "extra.json", "sub"])
def test_a_link_out_of_the_folder_is_refused(folder, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(secret if name != "sub" else tmp_path)
    with pytest.raises(ValueError, match="leads out of the model's folder"):
        model_folder.check(folder)


def test_a_pipe_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "tokens.txt")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        model_folder.check(folder)


def test_links_into_a_hubs_store_are_taken(folder, tmp_path):
    """As hub caches keep files: snapshots/COMMIT/config.json -> ../../blobs/HASH."""
    hub = tmp_path / "models--x--y"
    (hub / "blobs").mkdir(parents=True)
    snapshot = hub / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    shutil.copy(folder / "config.json", hub / "blobs" / "1")
    (snapshot / "config.json").symlink_to("../../blobs/1")
    model_folder.check(snapshot)


GADGETS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('__cl' ~ 'ass__') }}",
    "{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}",
    "{{ lipsum['__globals__'].os.system('touch CANARY') }}",
    "{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ self.__init__.__globals__.__builtins__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['sys'] }}",
    "{{ messages.__reduce__() }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "{{ '%s'.format_map({'a': 1}).__class__ }}",
    "{% set x = messages.__class__ %}{{ x }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{% import 'os' as os %}{{ os }}",
    "{% from 'os' import system %}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{{ (messages|map(attribute='__class__')|list) }}",
    "{{ messages.pop.__self__ }}",
    "{{ (().gi_frame or 1).f_globals }}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "{% set ns = namespace(a=cycler.__init__) %}{{ ns.a }}",
]
HEAVY = [
    "{{ 'x' * 10000000000 }}",
    "{{ [0] * 10000000000 }}",
    "{% for a in range(99999) %}{{ 'x' * 200000 }}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a %}{% endfor %}{% endfor %}",
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}{{ 9 ** 9 ** 9 }}",
    "{% set n = namespace(s='xx') %}{% for a in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}"
    "{{ n.s }}",
    "{{ 10 ** 10 ** 10 }}",
]


@pytest.mark.parametrize("template", GADGETS)
def test_a_template_that_reaches_for_python_is_refused(folder, canary, template):
    text = TEMPLATE + template.replace("CANARY", str(canary))
    (folder / "chat_template.jinja").write_text(text)
    with pytest.raises(ValueError, match=r"chat_template\.jinja is refused: it re"):
        model_folder.check_templates(folder)


@pytest.mark.parametrize("template", HEAVY)
def test_a_template_that_takes_time_or_memory_is_refused(template):
    ends = "more time or memory|does not come to an end|writes more than"
    with pytest.raises(ValueError, match=ends):
        chat_template.check(template)


@pytest.mark.parametrize("template", ["{% for %}", "{{", "{% endif %}"])
def test_what_is_no_template_is_refused(template):
    with pytest.raises(ValueError, match="it is no template"):
        chat_template.check(template)


def test_templates_are_found_wherever_they_stand(folder):
    bad = "{{ ''.__class__ }}"
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": [{"name": "default", "template": TEMPLATE},
                                      {"name": "tool_use", "template": bad}]})
    )  # fmt: skip
    with pytest.raises(ValueError, match="reaches for __class__"):
        model_folder.check_templates(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text(bad)
    with pytest.raises(ValueError, match=r"rag\.jinja"):
        model_folder.check_templates(folder)


def test_a_long_template_is_refused_unrendered(folder):
    (folder / "chat_template.jinja").write_text("x" * 300_000)
    with pytest.raises(ValueError, match="longer than 256 KiB"):
        model_folder.check_templates(folder)


def test_no_engine_is_started_on_a_refused_base(folder, canary, settings):
    settings.ENGINE, settings.BASE_MODEL = "transformers", str(folder)
    assert engine.command_line(8002)
    (folder / "modeling_x.py").write_text(f"import os\nos.system('touch {canary}')\n")
    with pytest.raises(engine.Missing, match="base model is refused: .*modeling_x.py is code"):
        engine.command_line(8002)


def committed(folder: Path) -> str:
    """A manifest of the folder as training writes it; its hash."""
    import hashlib

    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in folder.rglob("*")
        if path.is_file()
    }
    covered = {"files": files, "metadata": {}}
    body = json.dumps(covered, sort_keys=True, indent=1).encode()
    digest = hashlib.sha256(body).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**covered, "sha256": digest}))
    return digest


def link_away(folder: Path) -> None:
    """The same bytes, but the file lies elsewhere."""
    away = folder.parent / "elsewhere"
    shutil.move(folder / "README.md", away)
    (folder / "README.md").symlink_to(away)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: None, None),
        (lambda folder: (folder / "pytorch_model.BIN").write_bytes(b""), "could carry code"),
        (lambda folder: (folder / "model.gguf").write_bytes(b""), "could carry code"),
        (link_away, "is a link"),
    ],
)
def test_committed_weights_hold_no_code_and_no_link(
    folder, spoil: Callable[[Path], None], sentence
):
    spoil(folder)
    digest = committed(folder)
    if sentence is None:
        manifest.outline(folder, digest)
        return
    with pytest.raises(ValueError, match=sentence):
        manifest.outline(folder, digest)


def sources() -> list[Path]:
    return [path for part in ("platform", "workers") for path in (ROOT / part).rglob("*.py")]


def test_no_code_of_ours_unpickles_or_trusts_remote_code():
    forbidden = {
        "pickle",
        "cPickle",
        "_pickle",
        "dill",
        "joblib",
        "shelve",
        "marshal",
        "cloudpickle",
    }
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [one.name.partition(".")[0] for one in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").partition(".")[0]]
            elif isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                    wrong.append((path.name, "trust_remote_code"))
            elif isinstance(node, ast.Attribute) and node.attr == "load":
                if ast.unparse(node) in ("torch.load", "np.load", "numpy.load"):
                    wrong.append((path.name, ast.unparse(node)))
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    named = isinstance(key, ast.Constant) and key.value == "trust_remote_code"
                    if named and not (isinstance(value, ast.Constant) and value.value is False):
                        wrong.append((path.name, "trust_remote_code"))
            wrong += [(path.name, name) for name in names if name in forbidden]
    assert wrong == []


def test_no_code_of_ours_unpacks_archives():
    """A round's folder is written as a tar; nothing reads one."""
    readers = re.compile(r"\b(zipfile|shutil\.unpack_archive|extractall|\.extract\()")
    assert [path.name for path in sources() if readers.search(path.read_text())] == []
