"""Facts of large files are found once, and again when the file is another."""

import os

import pytest

from emocircuits.errors import UserError
from emocircuits.models import known_files
from emocircuits.models.known_files import known_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOCIRCUITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_files, "SMALL_BYTES", 4)
    return tmp_path / "cache"


@pytest.fixture
def counted():
    """Counts how often a file is read."""

    def find(path):
        find.times += 1
        return path.read_text()

    find.times = 0
    return find


def test_a_file_is_read_once_until_it_changes(tmp_path, counted):
    path = tmp_path / "file"
    path.write_text("first")
    assert [known_of(path, "text", counted) for _ in range(3)] == ["first"] * 3 and counted.times == 1
    assert known_of(path, "other", lambda path: 7) == 7 and known_of(path, "text", counted) == "first"
    path.write_text("longer text")
    assert known_of(path, "text", counted) == "longer text" and counted.times == 2
    state = path.stat()
    path.write_text("LONGER TEXT")  # the same size, another time
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert known_of(path, "text", counted) == "LONGER TEXT"
    state = path.stat()
    (tmp_path / "new").write_text("lONGER tEXT")  # the same size and time, another file
    os.utime(tmp_path / "new", ns=(state.st_atime_ns, state.st_mtime_ns))
    os.replace(tmp_path / "new", path)
    assert known_of(path, "text", counted) == "lONGER tEXT" and counted.times == 4


def test_small_files_and_errors_are_not_kept(tmp_path, counted, cache):
    path = tmp_path / "file"
    path.write_text("abc")
    assert known_of(path, "text", counted) == known_of(path, "text", counted) == "abc" and counted.times == 2

    def broken(path):
        raise UserError("broken")

    path.write_text("abcdef")
    for _ in range(2):
        with pytest.raises(UserError, match="broken"):
            known_of(path, "finite", broken)
    assert not cache.exists()


@pytest.mark.parametrize("spoiled", ["{", "[]", '{"a": 3}'])
def test_a_spoiled_cache_is_no_obstacle(tmp_path, counted, cache, spoiled):
    path = tmp_path / "file"
    path.write_text("abcdef")
    cache.mkdir()
    (cache / "files.json").write_text(spoiled.replace("a", str(path)))
    assert known_of(path, "text", counted) == "abcdef"
    assert known_of(path, "text", counted) == "abcdef" and counted.times == 1


def test_a_cache_that_cannot_be_written_saves_nothing(tmp_path, counted, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("EMOCIRCUITS_CACHE", str(tmp_path / "taken"))
    path = tmp_path / "file"
    path.write_text("abcdef")
    assert [known_of(path, "text", counted) for _ in range(2)] == ["abcdef"] * 2 and counted.times == 2
