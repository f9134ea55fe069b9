"""Programs that mean harm, or do it: what the ladder's first rung and the sandbox have to hold.

Each says what its author may get out of it at most: "breach", the program is stopped for good;
"error", an answer without a score; "fine", a score like any other, by harmless means. FILE, HOME
and PORT in a text become the host's canaries.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

DEF = "def compute_reward(prompt, response, judge, meta):\n"
ONE = "return {'total': 1.0, 'components': {}}"


@dataclass(frozen=True)
class Hostile:
    name: str
    code: str
    ends: tuple[str, ...]  # how its first answer may end
    static: bool = True  # whether the first rung refuses it without running it


def inside(body: str) -> str:
    return DEF + textwrap.indent(textwrap.dedent(body).strip() + "\n", "    ")


def told(expression: str, imports: str = "") -> str:
    """A program that would carry what it found home in a component."""
    return f"{imports}\n" + inside(
        f"""
        try:
            found = {expression}
        except Exception as error:
            raise ValueError('nothing there: ' + str(error)[:80])
        return {{'total': 1.0, 'components': {{str(found)[:50]: 1.0}}}}
        """
    )


BREACH, ERROR, FINE = ("breach",), ("error",), ("fine",)
STOPPED = ("breach", "error")

BOMBS = [
    Hostile("endless loop", inside("while True:\n    pass"), BREACH, False),
    Hostile(
        "endless loop that swallows its end",
        inside(
            "while True:\n    try:\n        while True:\n            pass\n"
            "    except BaseException:\n        pass"
        ),
        BREACH,
        False,
    ),
    Hostile("endless iteration", inside("return sum(range(10 ** 12))"), BREACH, False),
    Hostile("list bomb", inside("x = []\nwhile True:\n    x.append('a' * 1000)"), BREACH, False),
    Hostile("doubling list", inside("x = [0]\nwhile True:\n    x = x + x"), BREACH, False),
    Hostile("list at once", inside("return [0] * 10 ** 10"), BREACH, False),
    Hostile("string bomb", inside("return 'a' * (3 * 10 ** 9)"), BREACH, False),
    Hostile(
        "dict bomb",
        inside("d = {}\ni = 0\nwhile True:\n    d[i] = 'x' * 100\n    i += 1"),
        BREACH,
        False,
    ),
    Hostile("set bomb", inside("return {str(i) for i in range(10 ** 9)}"), BREACH, False),
    Hostile("padding bomb", inside("return f'{1:>1000000000}'"), BREACH, False),
    Hostile("replace bomb", inside("s = 'a' * 10 ** 6\nreturn s.replace('a', s)"), BREACH, False),
    Hostile(
        "join bomb", inside("s = 'a' * 10 ** 6\nreturn s.join(['b'] * 10 ** 5)"), BREACH, False
    ),
    Hostile("zip bomb", inside("return list(zip(*[range(10 ** 9)] * 2))"), BREACH, False),
    Hostile(
        "bomb that swallows its end",
        inside("try:\n    x = [0] * 10 ** 10\nexcept BaseException:\n    pass\n" + ONE),
        BREACH,
        False,
    ),
    Hostile(
        "deep recursion",
        DEF + "    return compute_reward(prompt, response, judge, meta)\n",
        STOPPED,
        False,
    ),
    Hostile("recursion by lambda", inside("f = lambda g: g(g)\nreturn f(f)"), STOPPED, False),
    Hostile(
        "recursion by repr",
        inside("x = []\nfor i in range(10 ** 5):\n    x = [x]\nreturn repr(x)"),
        STOPPED + FINE,
        False,
    ),
    Hostile("huge integer", inside("return str(10 ** 10000000)[:5]"), BREACH, False),
    Hostile("huge shift", inside("return 1 << 10 ** 9"), BREACH, False),
    Hostile("tower of powers", inside("x = 9\nwhile True:\n    x = x ** x"), STOPPED, False),
    Hostile("factorial", inside("import math\nreturn math.factorial(10 ** 7)"), STOPPED, False),
    Hostile("comb", inside("import math\nreturn math.comb(10 ** 7, 5 * 10 ** 6)"), STOPPED, False),
    Hostile(
        "catastrophic regex",
        inside("import re\nreturn re.match(r'(a+)+$', 'a' * 60 + 'b')"),
        STOPPED,
        False,
    ),
    Hostile(
        "alternating regex",
        inside("import re\nreturn re.match(r'(a|aa)+$', 'a' * 5000 + 'b')"),
        STOPPED,
        False,
    ),
    Hostile(
        "backreference regex",
        inside("import re\nreturn re.match(r'(a*)*\\1b', 'a' * 60)"),
        STOPPED,
        False,
    ),
    Hostile(
        "regex of a billion",
        inside("import re\nreturn re.compile('(?:a{1000}){1000000}')"),
        STOPPED,
        False,
    ),
    Hostile("nested JSON", inside("import json\nreturn json.loads('[' * 10 ** 6)"), STOPPED, False),
    Hostile(
        "JSON of a knot",
        inside("import json\nx = []\nx.append(x)\nreturn json.dumps(x)"),
        STOPPED,
        False,
    ),
    Hostile("printing without end", inside("while True:\n    print('x' * 1000)"), BREACH, False),
    Hostile("printing much", inside("print('x' * 10 ** 7)\n" + ONE), BREACH, False),
    Hostile(
        "huge result",
        inside("return {'total': 1.0, 'components': {'a' * 10 ** 7: 1.0}}"),
        STOPPED,
        False,
    ),
    Hostile(
        "wide result",
        inside("return {'total': 1.0, 'components': {str(i): 1.0 for i in range(10 ** 5)}}"),
        STOPPED,
        False,
    ),
    Hostile(
        "deep result",
        inside("x = []\nfor i in range(10 ** 5):\n    x = [x]\nreturn x"),
        STOPPED,
        False,
    ),
    Hostile(
        "result that holds itself",
        inside("x = {}\nx['total'] = x\nx['components'] = x\nreturn x"),
        STOPPED,
        False,
    ),
]

SHAPES = [
    Hostile("nothing", inside("return None"), ERROR, False),
    Hostile("a number", inside("return 1.0"), ERROR, False),
    Hostile("a tuple", inside("return (1.0, {})"), ERROR, False),
    Hostile("a list of pairs", inside("return [('total', 1.0), ('components', {})]"), ERROR, False),
    Hostile(
        "another key",
        inside("return {'total': 1.0, 'components': {}, 'valid': True}"),
        ERROR,
        False,
    ),
    Hostile("no components", inside("return {'total': 1.0}"), ERROR, False),
    Hostile(
        "not a number", inside("return {'total': float('nan'), 'components': {}}"), ERROR, False
    ),
    Hostile("infinity", inside("return {'total': float('inf'), 'components': {}}"), ERROR, False),
    Hostile(
        "infinite component",
        inside("return {'total': 0.0, 'components': {'a': -1e400}}"),
        ERROR,
        False,
    ),
    Hostile("a boolean", inside("return {'total': True, 'components': {}}"), ERROR, False),
    Hostile("a text", inside("return {'total': '1.0', 'components': {}}"), ERROR, False),
    Hostile("a complex number", inside("return {'total': 1j, 'components': {}}"), ERROR, False),
    Hostile(
        "an integer past every float",
        inside("return {'total': 10 ** 400, 'components': {}}"),
        ERROR,
        False,
    ),
    Hostile("out of range", inside("return {'total': 100.1, 'components': {}}"), ERROR, False),
    Hostile(
        "thirteen components",
        inside("return {'total': 1.0, 'components': {str(i): 1.0 for i in range(13)}}"),
        ERROR,
        False,
    ),
    Hostile(
        "a component by number",
        inside("return {'total': 1.0, 'components': {1: 1.0}}"),
        ERROR,
        False,
    ),
    Hostile(
        "a component without a name",
        inside("return {'total': 1.0, 'components': {'': 1.0}}"),
        ERROR,
        False,
    ),
    Hostile(
        "a component that is a list",
        inside("return {'total': 1.0, 'components': {'a': [1.0]}}"),
        ERROR,
        False,
    ),
    Hostile("a function", inside("return compute_reward"), ERROR, False),
    Hostile("wrong arguments", "def compute_reward(prompt):\n    " + ONE + "\n", ERROR),
    Hostile("no function", "total = 1.0\n", ERROR),
    Hostile(
        "a value instead of a function",
        "compute_reward = {'total': 1.0, 'components': {}}\n",
        ERROR,
    ),
    Hostile("a generator", inside("yield {'total': 1.0, 'components': {}}"), ERROR),
    Hostile("a coroutine", "async " + inside(ONE), STOPPED),
]

READS = [
    Hostile("/etc/passwd", told("open('/etc/passwd').read()"), ERROR),
    Hostile("the canary", told("open('FILE').read()"), ERROR),
    Hostile("the home of the platform", told("open('HOME/db.sqlite3', 'rb').read()"), ERROR),
    Hostile("a key", told("open('/root/.ssh/id_rsa').read()"), ERROR),
    Hostile("pathlib", told("pathlib.Path('FILE').read_text()", "import pathlib"), STOPPED),
    Hostile(
        "pathlib, listing", told("list(pathlib.Path('/').iterdir())", "import pathlib"), STOPPED
    ),
    Hostile("its own environment", told("open('/proc/self/environ').read()"), ERROR),
    Hostile("os.environ", told("dict(os.environ)", "import os"), STOPPED),
    Hostile("os.getenv", told("os.getenv('PLUMBLINE_CANARY')", "import os"), STOPPED),
    Hostile("os.listdir", told("os.listdir('/')", "import os"), STOPPED),
    Hostile("writing the canary", inside("open('FILE', 'w').write('gone')\n" + ONE), ERROR),
    Hostile(
        "writing by pathlib",
        "import pathlib\n" + inside("pathlib.Path('FILE').write_text('gone')\n" + ONE),
        STOPPED,
    ),
    Hostile("unlinking the canary", "import os\n" + inside("os.unlink('FILE')\n" + ONE), STOPPED),
    Hostile("fileinput", told("fileinput.input('FILE')", "import fileinput"), STOPPED),
    Hostile("io", told("io.open('FILE').read()", "import io"), STOPPED),
    Hostile("sqlite", told("sqlite3.connect('HOME/db.sqlite3')", "import sqlite3"), STOPPED),
]

REACHES = [
    Hostile(
        "socket", told("socket.create_connection(('127.0.0.1', PORT))", "import socket"), STOPPED
    ),
    Hostile(
        "urllib",
        told("urllib.request.urlopen('http://127.0.0.1:PORT')", "import urllib.request"),
        STOPPED,
    ),
    Hostile(
        "http.client",
        told("http.client.HTTPConnection('127.0.0.1', PORT).connect()", "import http.client"),
        STOPPED,
    ),
    Hostile(
        "asyncio",
        told("asyncio.run(asyncio.open_connection('127.0.0.1', PORT))", "import asyncio"),
        STOPPED,
    ),
    Hostile(
        "subprocess",
        told("subprocess.run(['touch', 'FILE.touched'])", "import subprocess"),
        STOPPED,
    ),
    Hostile("os.system", told("os.system('touch FILE.touched')", "import os"), STOPPED),
    Hostile("os.fork", "import os\n" + inside("while True:\n    os.fork()"), STOPPED),
    Hostile("killing", told("os.kill(1, 9)", "import os"), STOPPED),
    Hostile("threads", told("threading.Thread(target=print).start()", "import threading"), STOPPED),
    Hostile(
        "multiprocessing",
        told("multiprocessing.Process(target=print).start()", "import multiprocessing"),
        STOPPED,
    ),
    Hostile("ctypes", told("ctypes.CDLL(None).getpid()", "import ctypes"), STOPPED),
    Hostile("signals", told("signal.raise_signal(9)", "import signal"), STOPPED),
]

TRICKS = [
    Hostile("__import__", told("__import__('os').environ"), ERROR),
    Hostile("importlib", told("importlib.import_module('os')", "import importlib"), STOPPED),
    Hostile("builtins", told("builtins.open('FILE')", "import builtins"), STOPPED),
    Hostile("import by another name", told("re.environ", "import os as re"), STOPPED),
    Hostile(
        "import in a function",
        inside("import time\nreturn {'total': time.time() % 100, 'components': {}}"),
        STOPPED,
    ),
    Hostile(
        "import from inside json",
        told("codecs.open('FILE').read()", "from json import codecs"),
        STOPPED,
        False,
    ),
    Hostile("relative import", "from . import os\n" + inside(ONE), STOPPED),
    Hostile("star import", "from os import *\n" + inside(ONE), STOPPED),
    Hostile("eval", told("eval('1 + 1')"), ERROR),
    Hostile("exec", inside("exec('import time')\n" + ONE), ERROR),
    Hostile(
        "eval under another name",
        inside("look = eval\nreturn {'total': look('1.0'), 'components': {}}"),
        ERROR,
    ),
    Hostile("eval in wide letters", told("ｅｖａｌ('1 + 1')"), ERROR),
    Hostile("compile", told("compile('1', 'a', 'eval')"), ERROR),
    Hostile("subclasses", told("().__class__.__base__.__subclasses__()"), ERROR),
    Hostile("globals of a function", told("compute_reward.__globals__"), ERROR),
    Hostile("getattr walk", told("getattr((), '__cla' + 'ss__')"), ERROR),
    Hostile("format walk", told("'{0.__class__.__init__.__globals__}'.format(prompt)"), ERROR),
    Hostile(
        "format walk put together", told("('{0._' + '_class__}').format(prompt)"), ERROR, False
    ),
    Hostile("format_map walk", told("'{a.__class__}'.format_map({'a': 1})"), ERROR),
    Hostile(
        "class with a hook",
        "class Odd(dict):\n    def __getitem__(self, key):\n        return 1.0\n"
        + inside("return Odd(total=1.0, components={})"),
        ERROR,
    ),
    Hostile(
        "metaclass",
        "class Meta(type):\n    pass\nclass Odd(metaclass=Meta):\n    pass\n" + inside(ONE),
        STOPPED,
    ),
    Hostile(
        "float subclass",
        "class Odd(float):\n    pass\n" + inside("return {'total': Odd(1), 'components': {}}"),
        STOPPED,
    ),
    Hostile("a decorator", "@print\n" + inside(ONE), ERROR),
    Hostile(
        "a default that is evaluated",
        "def compute_reward(prompt, response, judge, meta=open('FILE')):\n    " + ONE,
        ERROR,
    ),
    Hostile("lying TimeoutError", inside("raise TimeoutError('valid')"), STOPPED, False),
    Hostile("lying MemoryError", inside("raise MemoryError('{\"breach\": null}')"), STOPPED, False),
    Hostile("SystemExit", inside("raise SystemExit(0)"), STOPPED, False),
    Hostile("KeyboardInterrupt", inside("raise KeyboardInterrupt"), STOPPED, False),
    Hostile("exit", inside("exit(0)"), ERROR, False),
    Hostile("an error that is long", inside("raise ValueError('x' * 10 ** 6)"), STOPPED, False),
    Hostile(
        "an error that speaks JSON",
        inside('raise ValueError(\'\\n{"turn": "", "outcomes": [], "breach": null}\\n\')'),
        ERROR,
        False,
    ),
    Hostile(
        "printing an outcome",
        inside(
            'print(\'{"turn": "", "outcomes": [[100, {}, null, 0]], "breach": null}\')\nreturn None'
        ),
        ERROR,
        False,
    ),
    Hostile(
        "null bytes in the code",
        "def compute_reward(prompt, response, judge, meta):\n    return '\0'\n",
        BREACH,
    ),
    Hostile("a very long line", "x = '" + "a" * 9000 + "'\n" + inside(ONE), FINE),
    Hostile("nested without end", inside("return " + "(" * 1000 + ")" * 1000), BREACH),
    Hostile("signs without end", inside("return " + "-" * 5000 + "1"), STOPPED),
    Hostile("a number without end", inside("return " + "9" * 5000), BREACH),
    Hostile(
        "an encoding of its own",
        "# -*- coding: utf-7 -*-\n" + inside("return '+AGEAYQ-'"),
        ERROR,
        False,
    ),
    Hostile("a form feed", "\x0c" + inside("\x0creturn None"), ERROR, False),
    Hostile("names that look alike", inside("рrompt = 1\n" + ONE), FINE, False),
    Hostile(
        "global",
        "kept = []\n"
        + inside(
            "global kept\nkept = kept + [1]\nreturn {'total': 1.0 * len(kept), 'components': {}}"
        ),
        FINE,
    ),
    Hostile(
        "patched arguments",
        inside("meta['params']['a'] = 99.0\njudge['x'] = 5\nmeta.clear()\n" + ONE),
        FINE,
        False,
    ),
    Hostile("shadowed inputs", "_prompt = 'x'\n_meta = None\n" + inside(ONE), FINE, False),
    Hostile(
        "patched builtins",
        "len = lambda x: 99\nsorted = None\n"
        + inside("return {'total': float(len('')), 'components': {}}"),
        FINE,
        False,
    ),
    Hostile("breakpoint", inside("breakpoint()\n" + ONE), ERROR),
    Hostile("input", inside("input()\n" + ONE), ERROR),
]

CLOCKS = [
    Hostile("time.time", told("time.time()", "import time"), STOPPED),
    Hostile("time.perf_counter", told("time.perf_counter()", "import time"), STOPPED),
    Hostile("time.process_time", told("time.process_time()", "import time"), STOPPED),
    Hostile("time.sleep", told("time.sleep(100)", "import time"), STOPPED),
    Hostile("datetime.now", told("datetime.datetime.now()", "import datetime"), STOPPED),
    Hostile("random.random", told("random.random()", "import random"), STOPPED),
    Hostile("random with a seed", told("random.Random(3).random()", "import random"), STOPPED),
    Hostile("os.urandom", told("os.urandom(8)", "import os"), STOPPED),
    Hostile("uuid", told("uuid.uuid4()", "import uuid"), STOPPED),
    Hostile("secrets", told("secrets.token_hex()", "import secrets"), STOPPED),
    Hostile("hash", told("hash('a')"), ERROR),
    Hostile("id", told("id(prompt)"), ERROR),
]

CORPUS = [*BOMBS, *SHAPES, *READS, *REACHES, *TRICKS, *CLOCKS]
