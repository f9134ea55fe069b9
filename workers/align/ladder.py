"""The first rung of a program's ladder: what can be said of it without running it.

The web process asks this before it keeps a program; the rungs that run it are climbed inside the
sandbox (`align.climbing`). A finding is a sentence that names the line, written for whoever mends
the program, person or model.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator

from align.inside.guard import MODULES, NAMES, is_private, rewrite
from align.programs import Criterion, RewardProgram

KINDS = ("code", "rubric", "hybrid")
LARGEST = 8192  # bytes of code
FUNCTION = "compute_reward"
ARGUMENTS = ("prompt", "response", "judge", "meta")
CRITERIA = (3, 8)  # fewest and most of a rubric
LEVELS = ("1", "3", "5")
QUESTION = 500  # characters
ANCHOR = 300
PARAMS = 32
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,39}")
WALK = re.compile(r"\{[^{}]*__")  # a format that would walk to an object's insides

NODES: tuple[type[ast.AST], ...] = (
    *(ast.Module, ast.FunctionDef, ast.Return, ast.Delete, ast.Assign, ast.AugAssign),
    *(ast.AnnAssign, ast.For, ast.While, ast.If, ast.Raise, ast.Try, ast.Assert, ast.Import),
    *(ast.ImportFrom, ast.Nonlocal, ast.Expr, ast.Pass, ast.Break, ast.Continue),
    *(ast.BoolOp, ast.NamedExpr, ast.BinOp, ast.UnaryOp, ast.Lambda, ast.IfExp, ast.Dict),
    *(ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Compare),
    *(ast.Call, ast.FormattedValue, ast.JoinedStr, ast.Constant, ast.Attribute, ast.Subscript),
    *(ast.Starred, ast.Name, ast.List, ast.Tuple, ast.Slice),
    *(ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop, ast.comprehension),
    *(ast.ExceptHandler, ast.arguments, ast.arg, ast.keyword, ast.alias),
)
CALLED = {
    ast.ClassDef: "a class",
    ast.Global: "global, which would keep something from one answer to the next",
    ast.Yield: "a generator function",
    ast.YieldFrom: "a generator function",
    ast.Await: "await",
    ast.AsyncFunctionDef: "an async function",
    ast.AsyncFor: "an async loop",
    ast.AsyncWith: "an async block",
    ast.With: "a with block",
    ast.Match: "match",
    ast.TryStar: "except*",
}


def check(program: RewardProgram) -> list[str]:
    """What is wrong with a program, in sentences; [] where nothing is."""
    found = [] if program.kind in KINDS else [f"The kind is {program.kind!r}, none of {KINDS}."]
    if program.kind == "rubric" and program.code:
        found.append("A program of kind rubric has no code.")
    if program.kind != "rubric":
        found += check_code(program.code)
    if program.kind == "code" and program.rubric:
        found.append("A program of kind code has no rubric.")
    if program.kind != "code":
        found += _rubric(program.rubric)
    return found + _params(program)


def check_code(code: str) -> list[str]:
    """Of the code alone."""
    if not isinstance(code, str) or not code.strip():
        return ["There is no code."]
    size = len(code.encode("utf-8", "surrogatepass"))
    if size > LARGEST:
        return [f"The code has {size} bytes; at most {LARGEST} are allowed."]
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        return [f"Line {error.lineno or 1}: the code is no Python: {error.msg}."]
    except (ValueError, RecursionError, MemoryError) as error:
        return [f"Line 1: the code is no Python: {error or 'it is nested too deeply'}."]
    found = [f"Line {line}: {what}." for line, what in sorted(set(_walk(tree)))]
    return found + _signature(tree) or _unreadable(code)


def _unreadable(code: str) -> list[str]:
    """What keeps the sandbox from reading code that is otherwise well."""
    try:
        rewrite(code)
    except (ValueError, RecursionError, MemoryError) as error:
        return [f"Line 1: the code cannot be read: {error or 'it is nested too deeply'}."]
    return []


def _walk(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, what is wrong there), of the whole code. An explicit stack: code may nest deeply."""
    left: list[tuple[ast.AST, int]] = [(tree, 1)]
    while left:
        node, line = left.pop()
        line = getattr(node, "lineno", line)
        yield from ((line, what) for what in _wrong(node))
        left += [(child, line) for child in ast.iter_child_nodes(node)]


def _wrong(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, NODES):
        what = CALLED.get(type(node), type(node).__name__)
        yield f"{what} may not be used in a program"
    if isinstance(node, ast.Import):
        yield from (_module(one.name) for one in node.names if one.name not in MODULES)
    if isinstance(node, ast.ImportFrom) and (node.level or node.module not in MODULES):
        yield _module("." * node.level + (node.module or ""))
    if isinstance(node, ast.ImportFrom) and any(one.name == "*" for one in node.names):
        yield "names have to be imported one by one, not by *"
    if isinstance(node, ast.FunctionDef) and node.decorator_list:
        yield "a decorator may not be used in a program"
    if isinstance(node, ast.Attribute) and node.attr.startswith("__"):
        yield f"the attribute {node.attr} may not be used"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and WALK.search(node.value):
        yield "a text may not name attributes with __ inside braces"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        yield from _getattr(node)
    for name in _named(node):
        if name in NAMES or is_private(name):
            yield f"the name {name} may not be used"


def _module(name: str) -> str:
    return f"{name} may not be imported; {', '.join(sorted(MODULES))} may"


def _getattr(node: ast.Call) -> Iterator[str]:
    """getattr is an attribute by another name, so it has to say which one."""
    name = node.args[1] if len(node.args) > 1 else None
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        yield "getattr has to name its attribute in the code"
    elif name.value.startswith("__"):
        yield f"the attribute {name.value} may not be used"


def _named(node: ast.AST) -> Iterator[str]:
    """The names that a node itself reads or binds."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name
    elif isinstance(node, ast.ImportFrom):
        yield from (one.name for one in node.names)
    elif isinstance(node, ast.alias) and node.asname:
        yield node.asname


def _signature(tree: ast.Module) -> list[str]:
    functions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == FUNCTION
    ]
    wanted = f"def {FUNCTION}({', '.join(ARGUMENTS)})"
    if not functions:
        return [f"Line 1: the code has to define {wanted}."]
    if len(functions) > 1:
        return [f"Line {functions[1].lineno}: {FUNCTION} is defined twice."]
    node = functions[0]
    given = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    more = node.args.vararg or node.args.kwarg or node.args.kwonlyargs or node.args.defaults
    if tuple(given) != ARGUMENTS or more:
        return [f"Line {node.lineno}: the function has to be {wanted}."]
    return []


def _rubric(rubric: tuple[Criterion, ...]) -> list[str]:
    fewest, most = CRITERIA
    found = []
    if not fewest <= len(rubric) <= most:
        found.append(f"The rubric has {len(rubric)} criteria; {fewest} to {most} are allowed.")
    ids = [criterion.id for criterion in rubric]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        found.append(f"Two criteria have the id {name}.")
    for criterion in rubric:
        found += [f"Criterion {criterion.id!r}: {what}." for what in _criterion(criterion)]
    if rubric and not found and not any(criterion.weight > 0 for criterion in rubric):
        found.append("No criterion of the rubric weighs anything.")
    return found


def _criterion(criterion: Criterion) -> Iterator[str]:
    if not isinstance(criterion.id, str) or not IDENTIFIER.fullmatch(criterion.id):
        yield "its id has to be small letters, digits and _, at most 40, a letter first"
    if not isinstance(criterion.question, str) or not criterion.question.strip():
        yield "it asks no question"
    elif len(criterion.question) > QUESTION:
        yield f"its question is longer than {QUESTION} characters"
    for level, text in criterion.anchors.items():
        if level not in LEVELS:
            yield f"an anchor is for {level!r}; anchors are for 1, 3 and 5"
        elif not isinstance(text, str) or not 0 < len(text.strip()) <= ANCHOR:
            yield f"the anchor of {level} has to be a text of 1 to {ANCHOR} characters"
    if not _finite(criterion.weight) or criterion.weight < 0:
        yield "its weight has to be a number that is not negative"


def _params(program: RewardProgram) -> list[str]:
    found = []
    if len(program.params) > PARAMS:
        found.append(f"There are {len(program.params)} params; at most {PARAMS} are allowed.")
    for name, value in program.params.items():
        if not isinstance(name, str) or not IDENTIFIER.fullmatch(name):
            found.append(
                f"The param {name!r}: a name has to be small letters, digits and _, a letter first."
            )
        elif not _finite(value):
            found.append(f"The param {name} has to be a finite number.")
    return found


def _finite(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]
