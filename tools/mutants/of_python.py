"""
The mutants of a Python module, made from its syntax tree.

What is for people or for type checkers is left alone: docstrings, annotations, messages of errors, texts with a space.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, Final

from tools.mutants.mutant import Mutant, label

_SWAPS: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_NAMES: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}


def mutants_of_python(source: str) -> Iterator[Mutant]:
    """Each way in which one node of the module's tree can be changed."""
    tree = ast.parse(source)
    before = ast.unparse(tree).splitlines()
    for node, function in _places(tree, None):
        for change in _changes(node):
            kind, fields = node.__class__, dict(node.__dict__)
            node.__class__, changes = change
            node.__dict__.update(changes)
            text = ast.unparse(tree)
            node.__class__ = kind
            node.__dict__.clear()
            node.__dict__.update(fields)
            # every change is within one line of what `unparse` writes
            pairs = zip(before, text.splitlines(), strict=True)
            differing = next(((old, new) for old, new in pairs if old != new), None)
            if differing:
                line = (node.target if kind is ast.comprehension else node).lineno
                yield Mutant(f"{text}\n", line, label(function, *differing), function is not None)


def _places(  # noqa: C901, PLR0912 - a case for each kind of node
    node: ast.AST, function: str | None, scope: str = ""
) -> Iterator[tuple[Any, str | None]]:
    """Each node that may be changed, with the name of the outermost function that it is in."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return
        case ast.Raise():
            yield node, function
            return
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            for part in (*node.decorator_list, node.args):
                yield from _places(part, function, scope)
            for part in node.body:
                yield from _places(part, function or f"{scope}{name}", scope)
        case ast.ClassDef(name=name):
            for part in node.body:
                yield from _places(part, function, f"{scope}{name}.")
        case ast.arg():
            return
        case ast.AnnAssign(value=value):
            if value is not None:
                yield from _places(value, function, scope)
        case _:
            yield node, function
            for part in ast.iter_child_nodes(node):
                yield from _places(part, function, scope)


def _changes(  # noqa: C901, PLR0912 - a case for each kind of node
    node: ast.AST,
) -> Iterator[tuple[type[ast.AST], dict[str, Any]]]:
    """Each change of *node*: the type and the fields that it is to have."""
    same = type(node)
    match node:
        case ast.Compare(ops=ops):
            for at, op in enumerate(ops):
                yield same, {"ops": [*ops[:at], _SWAPS[type(op)](), *ops[at + 1 :]]}
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op):
            if type(op) in _SWAPS:
                yield same, {"op": _SWAPS[type(op)]()}
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield ast.Call, {"func": ast.Name("bool"), "args": [operand], "keywords": []}
        case ast.Constant(value=bool(value)):
            yield same, {"value": not value}
        case ast.Constant(value=int(value) | float(value)):
            yield same, {"value": value + 1}
        case ast.Constant(value=str(value)):
            if " " not in value:
                yield same, {"value": f"x{value}"}
        case ast.Constant(value=bytes(value)):
            yield same, {"value": b"x" + value}
        case ast.Return(value=value):
            if value is not None and not (isinstance(value, ast.Constant) and value.value is None):
                yield same, {"value": ast.Constant(None)}
        case ast.Name(id=name):
            if name in _NAMES:
                yield same, {"id": _NAMES[name]}
        case ast.If() | ast.IfExp():
            yield same, {"test": ast.Constant(value=False)}
            yield same, {"test": ast.Constant(value=True)}
        case ast.comprehension(ifs=ifs):
            for at in range(len(ifs)):
                yield same, {"ifs": [*ifs[:at], *ifs[at + 1 :]]}
        case ast.ExceptHandler(type=ast.Tuple(elts=kinds)):
            for at in range(len(kinds)):
                yield same, {"type": ast.Tuple([*kinds[:at], *kinds[at + 1 :]])}
        case ast.ExceptHandler():
            yield same, {"type": ast.Tuple([])}
        case (
            ast.Continue()
            | ast.Break()
            | ast.Raise()
            | ast.Delete()
            | ast.Expr(value=ast.Call())
            | ast.Assign(targets=[ast.Attribute() | ast.Subscript() | ast.Tuple()])
        ):
            yield ast.Pass, {}
