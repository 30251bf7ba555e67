"""Recipes: every key says what it means, every wrong value is refused before anything runs, and settings that
are renamed in one place only break loudly.
"""

import ast
import re
from dataclasses import fields, is_dataclass, make_dataclass, replace
from pathlib import Path

import pytest

import emocircuits
from emocircuits.errors import UserError
from emocircuits.runs.recipe import Recipe, load_recipe, recipe_from_dict, recipe_keys
from emocircuits.settings import ABOUT, check, keys, setting

PACKAGE = Path(emocircuits.__file__).parent
ROOT = PACKAGE.parent
NAMES = [key.name for key in recipe_keys()]
SECTIONS = sorted({name.split(".")[0] for name in NAMES if "." in name})


def test_every_field_of_a_recipe_says_what_it_means():
    for item in fields(Recipe):
        if ABOUT in item.metadata:
            continue
        section = item.default_factory()
        assert is_dataclass(section), item.name
        silent = [inner.name for inner in fields(section) if ABOUT not in inner.metadata]
        assert not silent, f"[{item.name}] {silent} have no meaning"
    for key in recipe_keys():
        assert len(key.about.meaning) > 5 and "\n" not in key.about.meaning, key.name


def test_keys_have_their_type_and_default():
    known = {key.name: key for key in recipe_keys()}
    assert len(known) == len(recipe_keys()) > 90
    assert known["sae.k"].type == "int" and known["sae.k"].default == 32
    assert known["steer.strengths"].type == "list of float" and known["memory_gb"].about.unit == "GiB"
    assert known["seed"].about.allowed == "≥ 0" and known["sae.lr"].about.allowed == "> 0"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sae.k=many", "sae.k is 'many'; expected int"),
        ("sae.k=3.5", "sae.k is 3.5; expected int"),
        ("sae.k=true", "sae.k is True; expected int"),
        ("sae.k=0", "sae.k is 0; expected at least 1"),
        ("sae.lr=0.0", "sae.lr is 0.0; expected a positive number"),
        ("sae.lr=nan", "sae.lr is nan; expected a finite number"),
        ("sae.kernel=quick", "unknown sae.kernel 'quick'; known: auto, dense, sparse"),
        ("sae.frozen_decoder=1", "sae.frozen_decoder is 1; expected bool"),
        ("match.q_value=1.5", "match.q_value is 1.5; expected at most 1"),
        ("match.permutations=-1", "match.permutations is -1; expected at least 1"),
        ("collect.further_texts=-1", "collect.further_texts is -1; expected a number that is not negative"),
        ("evaluate.sizes=[5, 0]", "evaluate.sizes is 0; expected at least 1"),
        ("evaluate.sizes=5", "evaluate.sizes is 5; expected a list"),
        ('steer.strengths=["strong"]', "steer.strengths is 'strong'; expected float"),
        ("dtype=float16", "unknown dtype 'float16'; did you mean 'bfloat16'?"),
        ("seed=-1", "seed is -1; expected a number that is not negative"),
        ("sae=3", "unknown recipe key 'sae'"),
        ("circuit.looks=3", "unknown recipe key 'circuit.looks'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(value, message):
    with pytest.raises(UserError) as caught:
        load_recipe("organism", (value,))
    assert message in str(caught.value)


def test_a_wrong_table_is_refused():
    with pytest.raises(UserError, match="sae is 3; expected a table"):
        recipe_from_dict({"sae": 3})


def test_an_unknown_key_names_the_nearest_and_the_command_that_lists_all():
    with pytest.raises(UserError) as caught:
        load_recipe("organism", ("attribute.max_token=3",))
    assert str(caught.value) == (
        "unknown recipe key 'attribute.max_token'; did you mean 'attribute.max_tokens'? "
        "all keys: emocircuits recipe"
    )


def test_the_recipe_holds_the_settings_of_the_rooms():
    from emocircuits.directions import DirectionSettings
    from emocircuits.matching import MatchSettings
    from emocircuits.sae import SAESettings

    recipe = Recipe()
    assert type(recipe.directions) is DirectionSettings
    assert type(recipe.sae) is SAESettings and type(recipe.match) is MatchSettings


def test_a_renamed_field_breaks_loudly():
    """A recipe that still uses the old name of a setting is refused, whichever class has it."""

    def renamed(settings, old, new):
        parts = [
            (new if item.name == old else item.name, item.type, setting(item.default, "renamed"))
            for item in fields(settings)
        ]
        return make_dataclass(settings.__name__, parts, frozen=True)

    for section, old in (("sae", "k"), ("match", "q_value"), ("directions", "from_token")):
        default = getattr(Recipe(), section)
        changed = renamed(type(default), old, f"{old}_new")()
        object.__setattr__(recipe := Recipe(), section, changed)
        from emocircuits.runs import recipe as module

        with pytest.raises(UserError, match=f"unknown recipe key '{section}.{old}'"):
            module._build(recipe, {section: {old: getattr(default, old)}}, "")


def test_settings_check_themselves_wherever_they_are_made():
    with pytest.raises(UserError, match="steer.samples is 0"):
        replace(Recipe().steer, samples=0)
    with pytest.raises(UserError, match="threads is 0"):
        replace(Recipe(), threads=0)


def test_names_that_stand_in_settings_are_those_of_the_registries():
    """Further members may be registered; those of the package are listed in the settings."""
    from emocircuits.activations.texts import TEXT_SOURCES
    from emocircuits.attribution.methods import METHODS
    from emocircuits.behaviours import BEHAVIOURS
    from emocircuits.directions import ESTIMATORS
    from emocircuits.sae import ARCHITECTURES

    known = {key.name: key.about.choices for key in recipe_keys() if key.about.open}
    registries = {
        "attribute.method": METHODS,
        "behaviours": BEHAVIOURS,
        "collect.material": TEXT_SOURCES,
        "directions.estimator": ESTIMATORS,
        "sae.architecture": ARCHITECTURES,
    }
    assert {name: sorted(choices) for name, choices in known.items()} == {
        name: sorted(card.name for card in registry if getattr(card, "pairs", True))
        for name, registry in registries.items()
    }


def quoted_keys(text):
    """What reads like a recipe key: `section.name`, but no file name and no module."""
    files = "|".join(
        ("h5", "csv", "json", "jsonl", "toml", "py", "md", "html", "svg", "pdf", "png", "safetensors")
    )
    pattern = rf"(?<![\w./-])({'|'.join(SECTIONS)})\.(?!(?:{files})\b)([a-z][a-z_0-9]*)\b(?![(.])"
    return {
        f"{section}.{name}"
        for section, name in re.findall(pattern, text)
        if not (PACKAGE / section / f"{name}.py").is_file()
    }


def test_every_recipe_key_in_a_message_exists():
    """Texts of errors, helps and docstrings of the whole package."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                wrong += [
                    f"{path.relative_to(PACKAGE)}:{node.lineno} {key}"
                    for key in quoted_keys(node.value)
                    if key not in NAMES
                ]
    assert not wrong, "\n".join(wrong)


def test_every_recipe_key_in_the_documentation_exists():
    wrong = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/howto").glob("*.md")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            asked = re.findall(r"--set (?!key=)([a-z_.0-9]+)=", line)
            wrong += [f"{path.name}:{number} {key}" for key in asked if key not in NAMES]
    assert not wrong, "\n".join(wrong)


def test_keys_of_a_class_stand_under_their_prefix():
    assert [key.name for key in keys(type(Recipe().checks), "checks")] == [
        "checks.clusters",
        "checks.lens_prompts",
        "checks.intensity",
    ]
    check(Recipe().checks, "checks")


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "saes").glob("*.toml")), *sorted((ROOT / "analyses/recipes").glob("*.toml"))],
    ids=str,
)
def test_recipes_that_ship_are_read(path):
    if path.name != "registry.toml":
        assert load_recipe(path).name
