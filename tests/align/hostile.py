"""Programs that mean harm, or do it: what the ladder's first rung and the sandbox have to hold.

Each says what its author may get out of it at most: "breach", the program is stopped for good;
"error", an answer without a score; "fine", a score like any other, by harmless means. FILE, HOME
and PORT in a text become the host's canaries.
"""

from __future__ import annotations

from tests.align.bombs import (
    BOMBS,
    BREACH,
    ERROR,
    FINE,
    ONE,
    SHAPES,
    STOPPED,
    Hostile,
    inside,
    told,
)

__all__ = ["CORPUS", "Hostile", "inside"]

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
