"""What two public calls make is what the circuit stage of a run saves, byte for byte, provenance aside."""

from dataclasses import replace

import emocircuits as emo


def test_choose_and_describe_give_the_circuit_of_a_run(debug_run, tmp_path):
    run = emo.Run.open(debug_run)
    effects, recipe = run.attribution("reward_hacking"), run.recipe
    find, _ = run.tasks("reward_hacking")
    chosen = emo.choose_circuit(effects, find, recipe.circuit, seed=recipe.seed)
    circuit = emo.describe_circuit(chosen, effects, find, run.model, run.store, run.matches)
    saved = run.circuit("reward_hacking")
    assert saved.example is not None and saved.provenance != circuit.provenance
    replace(circuit, provenance=saved.provenance).save(tmp_path / "circuit.json")
    assert (tmp_path / "circuit.json").read_bytes() == run.path("circuit_reward_hacking.json").read_bytes()
