"""Whether a chat template only writes a prompt: tried in a process of its own with little time and
memory, before anything renders it where that would matter.

A template is a program that came with a model. The libraries that render it refuse some gadgets and
set no limits (CVE-2026-115911). This file is both halves: `check` starts it as a program.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import lru_cache

SECONDS = 10.0
CPU_SECONDS = 3
MEMORY = 1 << 30
LONGEST = 200_000  # characters written for a conversation of a few words
# Attributes and filters by which templates have got at Python itself.
GADGETS = ("_", "mro", "func_globals", "gi_frame", "cr_frame", "f_globals", "f_builtins")
DUNDER = re.compile(
    r"__(class|mro|bases?|subclasses|globals|builtins|init|import|dict|code|reduce)"
)


@lru_cache(maxsize=64)
def check(template: str) -> None:
    """Raises ValueError with what the template did that none needs to do."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__],
            input=json.dumps(template),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={},
        )
    except subprocess.TimeoutExpired:
        raise ValueError("it does not come to an end") from None
    said = done.stdout.strip()
    if done.returncode == 0 and said == "fine":
        return
    if done.returncode < 0:
        raise ValueError("it takes more time or memory than a prompt does")
    raise ValueError(said or "it cannot be rendered")


def _try(template: str) -> str:
    """What is wrong with it, "fine" where nothing is."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    plain = {"trim_blocks": True, "lstrip_blocks": True}
    env = ImmutableSandboxedEnvironment(extensions=[_generation(), loopcontrols], **plain)
    env.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    env.globals |= {"raise_exception": refuse, "strftime_now": lambda _: "2026-01-01"}
    try:
        tree = env.parse(template)
    except TemplateSyntaxError as error:
        return f"it is no template: {error.message}"
    if (found := DUNDER.search(template)) is not None:
        return f"it reaches for {found[0]}__"
    readers = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends)
    if any(tree.find(kind) is not None for kind in readers):
        return "it reads another file"
    if tree.find(nodes.Pow) is not None:
        return "it takes powers, and with them more time or memory than a prompt does"
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Filter)):
        item = getattr(node, "arg", None)
        name = item.value if isinstance(item, nodes.Const) else getattr(node, "attr", "")
        if isinstance(name, str) and name.startswith(GADGETS):
            return f"it reaches for {name}"
        if isinstance(node, nodes.Filter) and node.name == "attr":
            return "it reaches for attributes by name"
    for conversation in CONVERSATIONS:
        size = 0
        try:
            for piece in env.from_string(tree).generate(**conversation):
                size += len(piece)
                if size > LONGEST:
                    return f"it writes more than {LONGEST:,} characters for a few words"
        except SecurityError as error:
            return f"it reaches for what is closed to it: {error}"
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
            continue  # it does not take this conversation, and says so
        except (RecursionError, MemoryError, OverflowError):
            return "it takes more time or memory than a prompt does"
    return "fine"


def _generation() -> type:
    """The tag by which templates mark what the assistant says."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012  # as Jinja wants it

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    return Generation


_USER = {"role": "user", "content": "Hello"}
_ANSWER = {"role": "assistant", "content": "Good morning."}
CONVERSATIONS = [
    {"messages": messages, "add_generation_prompt": adds, "tools": tools}
    | {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "", "unk_token": ""}
    for messages in (
        [_USER],
        [{"role": "system", "content": "Be kind."}, _USER, _ANSWER, _USER],
        [_USER, _ANSWER],
    )
    for adds in (True, False)
    for tools in (None, [{"type": "function", "function": {"name": "f", "parameters": {}}}])
]


def _main() -> int:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        print(_try(json.loads(sys.stdin.read())))
    except ImportError:
        print("Jinja, by which it could be tried, is not installed here")
    except MemoryError:
        print("it takes more time or memory than a prompt does")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
