"""What a module declares, read off its source: its dataclasses and the constants made of them, without its imports.

A command's --help needs the fields of the networks' configs, not Keras, which takes seconds to import. So only what
stands at the top of a module is run: dataclasses without their methods (a value is not checked), and assignments that
need nothing but these and the same of modules at home. Whatever needs more is left out.
"""
from __future__ import annotations

import ast
import dataclasses
import importlib.util
import tokenize
from functools import lru_cache
from pathlib import Path
from typing import Any

_HOME = ("Network", "Datagenerator", "Dataset")
_LIGHT = ("__future__", "dataclasses", "typing", "math", "pathlib")


@lru_cache(maxsize=None)
def declared(module: str) -> dict[str, Any]:
    """Name -> value of a module's dataclasses and constants; {} for a module without source. `module`: dotted."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return {}
    path = Path(spec.origin)
    with tokenize.open(path) as file:
        text = file.read()
    comments = _comments(text)
    known: dict[str, Any] = {"__name__": module}
    imported: dict[str, str] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _HOME:
            imported.update({alias.asname or alias.name: node.module or "" for alias in node.names})
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if all(name in _LIGHT for name in names):
                _run(node, known)
        elif isinstance(node, ast.ClassDef) and any("dataclass" in ast.dump(d) for d in node.decorator_list):
            fields = [statement for statement in node.body if isinstance(statement, ast.AnnAssign)]
            node.body = fields or [ast.Pass()]
            _resolve(node, known, imported)
            if _run(node, known):
                own = {f.target.id: comments.get(f.end_lineno or 0, "") for f in fields
                       if isinstance(f.target, ast.Name)}
                inherited = [getattr(base, "explained", {}) for base in reversed(known[node.name].__mro__[1:])]
                known[node.name].explained = {k: v for part in (*inherited, own) for k, v in part.items()}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            _resolve(node, known, imported)
            _run(node, known)
    return known


def explained(config: type) -> dict[str, str]:
    """Field -> the comment beside it in the source; "" without. `config`: a dataclass of `declared`."""
    notes = getattr(config, "explained", {})
    return {field.name: notes.get(field.name, "") for field in dataclasses.fields(config)}


def _resolve(node: ast.AST, known: dict[str, Any], imported: dict[str, str]) -> None:
    """Add to `known` what a statement names of other modules at home."""
    for name in {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} & imported.keys() - known.keys():
        found = declared(imported[name])
        if name in found:
            known[name] = found[name]


def _run(node: ast.stmt, known: dict[str, Any]) -> bool:
    """Whether a statement could be run with what is known."""
    if isinstance(node, ast.AnnAssign) and node.value is not None:          # a constant's type may need more
        node = ast.Assign([node.target], node.value)
    body = ast.Module([node], type_ignores=[])
    try:
        exec(compile(ast.fix_missing_locations(body), known["__name__"], "exec", dont_inherit=True), known)
    except Exception:       # it needs what is not known, as NumPy
        return False
    return True


def _comments(text: str) -> dict[int, str]:
    """Line -> the comment at its end."""
    tokens = tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__)
    return {token.start[0]: token.string.lstrip("#: ").strip() for token in tokens
            if token.type == tokenize.COMMENT and token.line[:token.start[1]].strip()}
