"""The table of commands: one spelling for each thing, help that fits a terminal, mistakes of one line."""

import argparse
import shlex
from collections import defaultdict

import pytest

from emocircuits.cli.help import noun_help, overview, verb_help
from emocircuits.cli.main import main
from emocircuits.cli.parse import find, parse
from emocircuits.cli.table import TABLE, entries, verbs
from emocircuits.cli.verb import SWITCH, Noun
from emocircuits.stages import ORDER

VERBS = list(verbs())


def test_there_are_four_groups_and_every_command_stands_once():
    assert [group.name for group in TABLE] == ["run", "ask", "make", "check"]
    names = [entry.name for group in TABLE for entry in group.entries]
    assert len(names) == len(set(names)) == len(entries())
    assert len({verb.name for verb in VERBS}) == len(VERBS)
    for entry in entries().values():
        if isinstance(entry, Noun):
            assert all(verb.name.split()[0] == entry.name for verb in entry.verbs)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_a_command_says_what_it_does_and_its_examples_parse(verb):
    assert verb.examples
    for example in verb.examples:
        words = shlex.split(example.split(" > ")[0])
        command, rest = find(words[1:])
        assert words[0] == "emocircuits" and command is verb
        assert isinstance(parse(command, rest), argparse.Namespace)


def test_arguments_have_one_style():
    """What a command acts on comes first; an option means, takes and is called the same everywhere."""
    forms = defaultdict(set)
    for verb in VERBS:
        kinds = [item.is_option for item in verb.arguments]
        assert kinds == sorted(kinds), verb.name
        fields = [item.field for item in verb.arguments]
        assert len(fields) == len(set(fields)), verb.name
        for item in verb.arguments:
            assert item.is_option or item.name.isupper(), (verb.name, item.name)
            assert len(item.meaning) > 3 and not item.meaning.endswith("."), (verb.name, item.name)
            assert item.kind is SWITCH or not item.is_option or item.kind.expected
            if item.is_option:
                forms[item.name].add(item.kind is SWITCH)
    assert all(len(kinds) == 1 for kinds in forms.values())
    assert {"--json", "--quiet", "--set", "--out"} <= set(forms)


def test_help_fits_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, overview().splitlines())) <= 80
    assert len(overview().splitlines()) <= 40
    for entry in entries().values():
        assert f"\n  {entry.name} " in overview()
        if isinstance(entry, Noun):
            text = noun_help(entry)
            assert len(text.splitlines()) <= 24
            assert all(f"\n  {verb.name.split()[1]} " in text for verb in entry.verbs)
    for verb in VERBS:
        text = verb_help(verb)
        about = text.split("\nexample")[0].splitlines()
        assert max(map(len, about)) <= 80, verb.name
        assert all(item.shown in text for item in verb.arguments), verb.name


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_overview(capsys, words):
    assert main(words) == 0
    assert capsys.readouterr().out == f"{overview()}\n"


def test_help_of_nouns_and_verbs(capsys):
    noun = entries()["sae"]
    for words in (["sae"], ["sae", "--help"], ["sae", "-h"]):
        assert main(words) == 0
        assert capsys.readouterr().out == f"{noun_help(noun)}\n"
    assert main(["sae", "sweep", "runs/x", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: emocircuits sae sweep RUN [options]\n")


def line_of(capsys, words):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("emocircuits: ") and captured.err.count("\n") == 1
    return captured.err.removeprefix("emocircuits: ").strip()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("rnu", "unknown command 'rnu'; did you mean 'run'?"),
        ("eval runs/x", "did you mean 'emocircuits sae eval'?"),
        (
            "sae evla runs/x",
            "sae has no verb 'evla'; expected train, eval, compare, sweep, register, check; did",
        ),
        ("zzzz", "unknown command 'zzzz'; all commands: emocircuits --help"),
        ("--jsno", "'--jsno' is no command; expected a command first"),
        ("sae sweep", "sae sweep needs RUN; expected emocircuits sae sweep RUN [options]"),
        ("sae sweep runs/x --flors", "sae sweep has no option --flors; did you mean --floors?"),
        ("sae sweep runs/x --floor", "sae sweep has no option --floor; did you mean --floors?"),
        ("sae sweep runs/x --k two", "--k two; expected whole numbers with commas between, e.g. 8,16,32"),
        ("sae sweep runs/x --k 8 --k 16", "--k is given twice; expected one value, or a list with commas"),
        ("sae sweep runs/x --training-rows 1.5", "--training-rows 1.5; expected a whole number"),
        ("sae sweep runs/x --k", "sae sweep: --k: expected one argument"),
        (
            "match show runs/x calm",
            "match show: 'calm' is one word too many; expected emocircuits match show",
        ),
        ("stage circut runs/x", "unknown stage 'circut'; did you mean 'circuit'?"),
        ("steer curve runs/x --split scores", "unknown --split 'scores'; did you mean 'score'?"),
        ("steer text runs/x --strengths 0.1", "steer text needs --emotion, --prompt"),
    ],
)
def test_mistakes_are_one_line(capsys, words, text):
    assert text in line_of(capsys, words.split())


@pytest.mark.parametrize("name", ORDER)
def test_a_stage_that_was_a_command_names_its_new_spelling(capsys, name):
    if name not in ("export", "figures", "report"):  # commands of their own
        line = line_of(capsys, [name, "runs/organism", "--set", "sae.k=16"])
        assert line.endswith(f"; emocircuits stage {name} runs/organism --set sae.k=16")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if " " in verb.name], ids=lambda verb: verb.name)
def test_an_old_spelling_with_a_hyphen_names_the_new_one(capsys, verb):
    line = line_of(capsys, [verb.name.replace(" ", "-"), "runs/organism"])
    assert line.endswith(f"; emocircuits {verb.name} runs/organism")


@pytest.mark.parametrize(
    ("verb", "item"),
    [(verb, item) for verb in VERBS for item in verb.arguments if item.was],
    ids=lambda part: getattr(part, "was", None) or getattr(part, "name", ""),
)
def test_an_old_option_names_the_new_one(capsys, verb, item):
    for word in (item.was, f"{item.was}=x"):
        assert f"{verb.name}: {item.was} is now {item.shown};" in line_of(capsys, [*verb.name.split(), word])


def test_values_become_what_their_kind_says():
    def parsed(line):
        return parse(*find(line.split()))

    text = parsed("steer text runs/x --emotion calm --strengths -0.1,0.1 --prompt p --sites all")
    assert text.strengths == (-0.1, 0.1) and text.sites == ("all",) and text.tokens == 40
    assert parsed("steer text r --emotion calm --strengths=-.5 --prompt p").strengths == (-0.5,)
    run = parsed("run --from sae my.toml --set a=b --set c=[1,2]")
    assert (run.from_, run.recipe, run.set) == ("sae", "my.toml", ("a=b", "c=[1,2]"))
    assert parsed("view runs/x").open and not parsed("view runs/x --no-open").open
    merged = parsed("store merge a.h5 b.h5 --out c.h5")
    assert [path.name for path in (*merged.store, merged.out)] == ["a.h5", "b.h5", "c.h5"]
