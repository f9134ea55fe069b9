"""Takes out of a program what may not be there, whatever the static rungs of its ladder said.

The interpreter itself can import `time` and `random` and knows `eval` and `hash`; a program that
used them would not give the same score twice. The text that the interpreter gets is written anew
from the syntax tree, so no comment, line ending or spelling of a name can mean one thing to the
ladder and another to the interpreter.
"""

from __future__ import annotations

import ast

MODULES = frozenset({"re", "math", "json", "collections", "unicodedata"})
NAMES = frozenset(
    {
        *("eval", "exec", "compile", "open", "input", "breakpoint"),
        *("time", "random", "hash", "id", "globals", "locals", "vars", "dir"),
        *("setattr", "delattr"),
    }
)


def is_private(name: str) -> bool:
    """Whether a name is the interpreter's own: dunder names, which programs have no use for."""
    return name.startswith("__")


def rewrite(code: str) -> tuple[str, dict[int, int]]:
    """The text to run, and which line of `code` each of its lines came from.

    An import of another module raises ImportError where it stood, and a name that may not be used
    NameError. Raises SyntaxError, ValueError, RecursionError or MemoryError for what is no Python,
    and ValueError for the rare code that cannot be written anew without changing it.
    """
    tree = ast.fix_missing_locations(_Guard().visit(ast.parse(code)))
    text = ast.unparse(tree)
    anew = ast.parse(text)
    if ast.dump(anew) != ast.dump(tree):
        raise ValueError("its syntax cannot be written in another way")
    lines: dict[int, int] = {}
    for old, new in zip(ast.walk(tree), ast.walk(anew), strict=True):
        if isinstance(new, ast.stmt) and isinstance(old, ast.stmt):
            lines.setdefault(new.lineno, old.lineno)
    return text, lines


class _Guard(ast.NodeTransformer):
    def visit_Import(self, node: ast.Import) -> ast.stmt:
        for alias in node.names:
            if alias.name not in MODULES:
                return _refuse(node, "ImportError", f"{alias.name} may not be imported")
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        if node.level or node.module not in MODULES:
            name = "." * node.level + (node.module or "")
            return _refuse(node, "ImportError", f"{name} may not be imported")
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if not isinstance(node.ctx, ast.Load) or not (node.id in NAMES or is_private(node.id)):
            return node
        # A name that nothing defines: reading it is the error that the program gets.
        return ast.copy_location(ast.Name(f"{node.id}_may_not_be_used", ast.Load()), node)


def _refuse(node: ast.stmt, kind: str, message: str) -> ast.stmt:
    error = ast.Call(ast.Name(kind, ast.Load()), [ast.Constant(message)], [])
    return ast.copy_location(ast.Raise(error, None), node)
