"""Lo que se exige a cada corrección: aceptar lo correcto, rechazar mutantes."""

from collections import Counter

from tokenatoken.checks import check


def accepted(number: str, *answers) -> None:
    verdict = check(number, *answers)
    assert verdict.ok is True, verdict


def rejected(name: str, number: str, *answers) -> None:
    """El mutante `name` recibe un ✘, y con una pista que dice algo."""
    verdict = check(number, *answers)
    assert verdict.ok is False, f"«{name}» pasa por bueno"
    assert len(verdict.message) > 25, "la pista no dice nada"


def enough_mutants(mutants: dict, correct: dict) -> None:
    """Cada ejercicio corregido tiene al menos ocho mutantes."""
    per_check = Counter(number for number, _ in mutants.values())
    assert set(per_check) == set(correct) and min(per_check.values()) >= 8
