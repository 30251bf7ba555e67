import os

import h5py
import numpy as np
import pandas as pd
import pytest

from emocircuits.errors import Failure, UserError
from emocircuits.io import hdf5
from emocircuits.io.atomic import atomic_path, write_text
from emocircuits.io.documents import read_json, write_csv, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError("cut off")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_a_failure_in_one_line(tmp_path):
    with pytest.raises(Failure, match="cannot write .*No space left"), atomic_path(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.array([True, False]),
        np.array(["a", "ü\n"]),
        np.zeros((0, 3), np.float32),
        np.arange(3, dtype=np.int32),
    ],
)
def test_hdf5_elements_round_trip(tmp_path, array):
    with hdf5.create(tmp_path / "a.h5", "thing", 1) as file:
        hdf5.write_array(file, "x", array)
        hdf5.write_value(file, "about", {"k": [1, None, "ü"]})
    with hdf5.open_stamped(tmp_path / "a.h5", "thing", 1) as file:
        assert np.array_equal(hdf5.read_array(file, "x"), array)
        assert hdf5.read_value(file, "about") == {"k": [1, None, "ü"]}
        with pytest.raises(UserError, match="no element"):
            hdf5.read_array(file, "y")


def test_foreign_truncated_and_newer_files_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.raises(UserError, match="does not exist"):
        hdf5.open_stamped(path, "thing", 1)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="a foreign HDF5 file"):
        hdf5.open_stamped(path, "thing", 1)
    with hdf5.create(path, "thing", 2) as file:
        hdf5.write_array(file, "x", np.zeros(10_000))
    with pytest.raises(UserError, match="version 2 of 'thing'"):
        hdf5.open_stamped(path, "thing", 1)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="truncated or not HDF5"):
        hdf5.open_stamped(path, "thing", 2)


def test_float16_is_refused(tmp_path):
    with pytest.raises(UserError, match="overflows"), hdf5.create(tmp_path / "a.h5", "thing", 1) as file:
        hdf5.write_array(file, "x", np.zeros(3, np.float16))


def test_documents_carry_schema_and_version_and_never_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1}, schema="s", version=2)
    assert read_json(path, schema="s", version=2)["x"] == 1
    with pytest.raises(UserError, match="schema 's'; expected 't'"):
        read_json(path, schema="t", version=2)
    with pytest.raises(UserError, match="version 2 of s"):
        read_json(path, schema="s", version=1)
    with pytest.raises(ValueError):
        write_json(path, {"x": float("nan")})
    assert read_json(path)["x"] == 1


def test_csv_restores_float32(tmp_path):
    values = np.random.default_rng(0).normal(size=50).astype(np.float32)
    write_csv(tmp_path / "a.csv", pd.DataFrame({"x": values}))
    assert np.array_equal(pd.read_csv(tmp_path / "a.csv")["x"].to_numpy(np.float32), values)
