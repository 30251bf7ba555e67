"""`emocircuits recipe`: every key is shown, as lines, as TOML that is the defaults, and as JSON."""

import json

from emocircuits.cli.main import main
from emocircuits.runs.recipe import Recipe, load_recipe, recipe_keys


def output(capsys, *options):
    assert main(["recipe", *options]) == 0
    return capsys.readouterr().out


def test_every_key_is_a_line_with_default_unit_and_meaning(capsys):
    lines = {line.split()[0]: line for line in output(capsys).splitlines() if line}
    for key in recipe_keys():
        line = lines[key.name]
        assert key.about.meaning in line and key.about.unit in line and key.about.allowed in line
    assert "sae.k " in lines["sae.k"] and " 32 " in lines["sae.k"]


def test_toml_is_a_recipe_of_the_defaults(capsys, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(output(capsys, "--toml"))
    assert load_recipe(path) == Recipe()
    assert all(f"# {key.about.meaning}" in path.read_text() for key in recipe_keys())


def test_json_holds_every_key(capsys):
    rows = json.loads(output(capsys, "--json"))
    assert [row["key"] for row in rows] == [key.name for key in recipe_keys()]
    assert {tuple(row) for row in rows} == {("key", "type", "default", "unit", "meaning", "allowed")}
    assert next(row for row in rows if row["key"] == "sae.k")["default"] == 32
