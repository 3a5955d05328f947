"""El lector de GGUF, contra la biblioteca gguf."""

import struct

import gguf
import numpy as np
import pytest

from tokenatoken.model.gguf import dequantize, read_gguf


def test_same_metadata_and_weights_as_the_library(tiny_gguf):
    metadata, tensors = read_gguf(tiny_gguf)
    reader = gguf.GGUFReader(tiny_gguf)
    theirs = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    assert metadata == theirs
    assert list(tensors) == [t.name for t in reader.tensors]
    for tensor in reader.tensors:
        kind, shape, raw = tensors[tensor.name]
        assert kind == tensor.tensor_type
        assert shape == tensor.shape.tolist()[::-1]
        good = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        ours = dequantize(kind, shape, raw, rows=7)
        assert ours.dtype == np.float32 and np.array_equal(ours, good)


@pytest.mark.parametrize("size", [0, 3, 4, 30, 500, 3000, -100])
def test_cut_file_is_an_error_in_spanish(tiny_gguf, tmp_path, size):
    path = tmp_path / "cortado.gguf"
    path.write_bytes(tiny_gguf.read_bytes()[:size])
    with pytest.raises(
        ValueError, match="no es un archivo GGUF|incompleto o dañado"
    ):
        read_gguf(path)


def test_other_formats_are_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match="no es un archivo GGUF"):
        read_gguf(tmp_path / "x.zip")


@pytest.mark.parametrize("count", [2**40, 2**62])
def test_an_absurd_count_is_an_error_at_once(tmp_path, count):
    """Un entero dañado no tiene al lector leyendo un minuto."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1)
    field = struct.pack("<Q", 1) + b"x" + struct.pack("<IIQ", 9, 0, count)
    (tmp_path / "x.gguf").write_bytes(head + field + bytes(10_000))
    with pytest.raises(ValueError, match=f"lista de {count} elementos"):
        read_gguf(tmp_path / "x.gguf")
