"""HDF5 files whose file and every element say what they are and of which version."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from emocircuits.errors import UserError
from emocircuits.io.atomic import atomic_path
from emocircuits.numerics import bf16_bits, from_bf16_bits

KIND, VERSION, ENCODING, ENCODING_VERSION = (
    "emocircuits-kind",
    "emocircuits-version",
    "encoding-type",
    "encoding-version",
)


@contextmanager
def create(path: str | Path, kind: str, version: int) -> Iterator[h5py.File]:
    """A new stamped HDF5 file, written atomically."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        stamp(file, kind, version)
        yield file


def stamp(file: h5py.File, kind: str, version: int) -> None:
    """Says on the file what it is and of which version."""
    file.attrs[KIND], file.attrs[VERSION] = kind, version


def open_stamped(path: str | Path, kind: str, version: int, mode: str = "r") -> h5py.File:
    """Opens a file made by `create`.

    Raises:
        UserError: the file is missing, truncated, no HDF5, of another kind, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist", expected=f"an HDF5 file of kind '{kind}'")
    try:
        file = h5py.File(path, mode)
    except OSError as error:
        cure = "the file is truncated or not HDF5: delete it and run the stage again"
        raise UserError(f"cannot read {path} as HDF5", cure=cure) from error
    found, found_version = file.attrs.get(KIND), int(file.attrs.get(VERSION, 0))
    if found != kind or found_version > version:
        file.close()
        if found == kind:
            raise UserError(
                f"{path} has version {found_version} of '{kind}'",
                expected=f"at most {version}",
                cure="update emocircuits",
            )
        raise UserError(
            f"{path} holds '{found or 'a foreign HDF5 file'}'",
            expected=f"an emocircuits file of kind '{kind}'",
        )
    return file


def write_array(
    group: h5py.Group, name: str, array: np.ndarray | Sequence[str], *, bfloat16: bool = False
) -> h5py.Dataset:
    """Writes one stamped element: numbers, booleans, strings, or float32 as bfloat16 bit patterns."""
    array = np.asarray(array)
    if array.dtype == np.float16:
        raise UserError(
            f"float16 for '{name}'", expected="float32 or bfloat16", cure="float16 overflows at 65504"
        )
    if bfloat16:
        return _stamped(group.create_dataset(name, data=bf16_bits(array)), "bfloat16-bits")
    if array.dtype.kind in "UOT":
        text = array.astype(object)
        return _stamped(group.create_dataset(name, data=text, dtype=h5py.string_dtype()), "string-array")
    return _stamped(group.create_dataset(name, data=array), "array")


def read_array(group: h5py.Group, name: str, index: Any = ()) -> np.ndarray:
    """Reads an element written by `write_array`; bfloat16 comes back as float32, strings as object arrays of
    str.

    Raises:
        UserError: the element is missing or has an unknown encoding.
    """
    data = _element(group, name)
    encoding = data.attrs.get(ENCODING)
    if encoding == "bfloat16-bits":
        return from_bf16_bits(data[index])
    if encoding == "string-array":
        return data.asstr()[index]
    if encoding == "array":
        return data[index]
    raise UserError(
        f"element '{group.name}/{name}' of {group.file.filename} has the encoding '{encoding}'",
        expected="array, string-array or bfloat16-bits",
        cure="update emocircuits",
    )


def write_value(group: h5py.Group, name: str, value: Any) -> None:
    """Writes a plain value as one stamped JSON text."""
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    _stamped(group.create_dataset(name, data=text, dtype=h5py.string_dtype()), "json")


def read_value(group: h5py.Group, name: str) -> Any:
    """Reads a value written by `write_json`."""
    return json.loads(_element(group, name).asstr()[()])


def _element(group: h5py.Group, name: str) -> h5py.Dataset:
    if name not in group:
        raise UserError(
            f"{group.file.filename} has no element '{group.name}/{name}'",
            cure="the file is incomplete: delete it and run the stage again",
        )
    return group[name]


def _stamped(data: h5py.Dataset, encoding: str, version: int = 1) -> h5py.Dataset:
    data.attrs[ENCODING], data.attrs[ENCODING_VERSION] = encoding, version
    return data
