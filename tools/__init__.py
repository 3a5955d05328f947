"""Lo que usa quien mantiene el curso: python -m tools.NOMBRE."""

import argparse
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parser(doc: str) -> argparse.ArgumentParser:
    """Un intérprete de órdenes cuya ayuda es la del módulo."""
    style = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=doc, formatter_class=style)


def notebooks(*folders: str) -> list[Path]:
    """Los cuadernos de esas carpetas, en orden."""
    return [p for f in folders for p in sorted((ROOT / f).glob("*.ipynb"))]


def as_json(content, indent: int | None = 1) -> str:
    """Unos datos del curso, como se guardan."""
    return json.dumps(content, ensure_ascii=False, indent=indent) + "\n"


def save_json(path: Path, content: dict, indent: int | None = 1) -> None:
    """Guarda unos datos del curso y dice dónde."""
    path.write_text(as_json(content, indent), encoding="utf-8")
    print(f"guardado {path.relative_to(ROOT)}")
