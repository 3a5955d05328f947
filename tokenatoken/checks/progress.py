"""Lo que llevas hecho: un JSON en tu equipo, que puedes borrar.

Cada `check()` y cada pregunta de `quiz()` apuntan aquí su veredicto. No sale
de tu equipo, y si no se puede escribir no pasa nada.
"""

import datetime
import json
import os
from contextlib import suppress
from pathlib import Path

import pandas as pd
from filelock import FileLock


def path() -> Path | None:
    """Dónde está: en la caché del curso, o donde diga `CURSO_LLM_PROGRESO`
    («no», en ningún sitio)."""
    home = os.environ.get("CURSO_LLM_CACHE") or "~/.cache/tokenatoken"
    where = os.environ.get("CURSO_LLM_PROGRESO") or f"{home}/progreso.json"
    return None if where == "no" else Path(where).expanduser()


def read() -> dict:
    """Ejercicio o pregunta → `{"ok", "tries", "date"}`; lo que no se entienda
    no cuenta."""
    try:
        kept = json.loads(path().read_text(encoding="utf-8"))
        return {k: v for k, v in kept.items() if isinstance(v["tries"], int)}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def record(number: str, ok: bool) -> None:
    """Apunta un intento. Lo que ya salió bien no deja de estarlo."""
    if path() is None:
        return
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        lock = path().with_suffix(".lock")  # dos cuadernos a la vez
        with FileLock(lock, timeout=5):
            kept = read()
            before = kept.get(number, {"ok": False, "tries": 0})
            kept[number] = {
                "ok": bool(before.get("ok")) or ok,
                "tries": before["tries"] + 1,
                "date": datetime.date.today().isoformat(),
            }
            fresh = path().with_suffix(f".{os.getpid()}")
            text = json.dumps(kept, ensure_ascii=False, indent=1)
            fresh.write_text(text, encoding="utf-8")
            os.replace(fresh, path())
    except OSError:
        pass  # sin disco, o sin permiso: la corrección no depende de esto


def forget() -> None:
    """Borra lo apuntado."""
    with suppress(OSError, AttributeError):
        path().unlink()


def progress() -> pd.DataFrame:
    """Por unidad: cuántos ejercicios y preguntas intentados y cuántos bien."""
    units = {}
    for number, kept in sorted(read().items()):
        unit, _, rest = number.partition(".")
        what = "preguntas" if rest.startswith("p") else "ejercicios"
        done = units.setdefault(unit, {"ejercicios": [], "preguntas": []})
        done[what].append(kept)
    rows = {unit: _row(**done) for unit, done in units.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "unidad"
    return table


def _row(**done: list[dict]) -> dict:
    """«3 de 4» de cada cosa, y cuántos intentos en total."""
    row = {
        what: f"{sum(bool(k.get('ok')) for k in kept)} de {len(kept)}"
        if kept
        else ""
        for what, kept in done.items()
    }
    return row | {
        "intentos": sum(k["tries"] for ks in done.values() for k in ks)
    }
