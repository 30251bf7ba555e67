"""Every card names its words and has prompts to find a circuit on and prompts to score it on."""

import pytest

from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.prompt_pairs import read_pairs


@pytest.mark.parametrize("name", BEHAVIOURS.names())
def test_card_contract(name):
    card = BEHAVIOURS.get(name)
    assert card.name == name and card.title and card.summary
    for key, material in card.materials.items():
        assert material.name == key and material.behaviour == name
        if material.scenario:
            continue
        assert material.targets and material.honest and not set(material.targets) & set(material.honest)
        assert material.path.name == f"{name}.{key}.jsonl"


@pytest.mark.parametrize(
    "path", sorted({m.path for b in BEHAVIOURS for m in b.materials.values() if m.path.is_file()})
)
def test_shipped_prompt_file(path):
    pairs = read_pairs(path)
    assert (
        sum(pair.split == "find" for pair in pairs) >= 12
        and sum(pair.split == "score" for pair in pairs) >= 12
    )
    assert not {p.clean for p in pairs if p.split == "find"} & {p.clean for p in pairs if p.split == "score"}
