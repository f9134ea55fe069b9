"""How a hostile program is written down, and those that want too much or return what they may not
(see `tests.align.hostile`)."""

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
