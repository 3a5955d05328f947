"""Qué celdas hacen falta para que un mando funcione: las demás, sobran.

Mira qué nombres usa cada celda y qué celdas anteriores los definen o los
cambian. Las dos primeras de código, la preparación y las importaciones, van
siempre. Si se equivoca, la celda del mando falla y la prueba lo dice.
"""

import ast

INSIDE = ast.FunctionDef | ast.Lambda | ast.ListComp | ast.SetComp
INSIDE |= ast.DictComp | ast.GeneratorExp


def bound(statement: ast.stmt) -> set[str]:
    """Los nombres que una instrucción define o cambia por dentro."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        names = (a.asname or a.name for a in statement.names)
        return {name.split(".")[0] for name in names}
    found, pending = set(), [statement]
    while pending:
        node = pending.pop()
        if isinstance(node, INSIDE):
            continue  # lo de dentro de una función no sale de ella
        if isinstance(getattr(node, "ctx", None), ast.Store):
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        pending += ast.iter_child_nodes(node)
    return found


def used(statement: ast.stmt) -> set[str]:
    """Los nombres de fuera que una instrucción usa."""
    nodes = list(ast.walk(statement))
    names = [n for n in nodes if isinstance(n, ast.Name)]
    own = {n.arg for n in nodes if isinstance(n, ast.arg)}
    simple = isinstance(statement, ast.Assign | ast.AugAssign)
    whole = statement.value if simple else statement
    own |= {
        n.id
        for n in ast.walk(whole)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    return {n.id for n in names if isinstance(n.ctx, ast.Load)} - own


def names(source: str) -> tuple[set[str], set[str]]:
    """`(definidos, usados)` en una celda."""
    ours, outside = set(), set()
    for statement in ast.parse(source).body:
        outside |= used(statement) - ours
        ours |= bound(statement)
    return ours, outside


def needed(sources: list[str], wanted: str) -> list[int]:
    """Las celdas que hay que ejecutar, en orden, para la que define `wanted`
    (índices en `sources`, las celdas de código)."""
    pairs = [names(source) for source in sources]
    last = max(
        (i for i, (ours, _) in enumerate(pairs) if wanted in ours), default=1
    )
    chosen, missing = {0, 1, last}, {wanted}
    for i in reversed(range(last + 1)):
        ours, outside = pairs[i]
        if i in chosen or ours & missing:
            chosen.add(i)
            missing |= outside
    return sorted(chosen)
