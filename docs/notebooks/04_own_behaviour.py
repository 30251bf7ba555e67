# %% [markdown]
# # 4. A behaviour card of your own
#
# Two questions to the planted model. Does *money trouble* alone make it cheat? And does *sadness*? The first
# is a card with an effect, the second one without: the instrument must say so as plainly.

# %%
import os
import random
import tempfile
from pathlib import Path

from matplotlib import pyplot as plt

from emocircuits import (
    BEHAVIOURS,
    CircuitGraph,
    PromptPair,
    add_behaviour,
    attribute,
    behaviour,
    bootstrap_interval,
    load_model,
    load_saes,
    write_pairs,
)

RUN = Path(os.environ.get("EMOCIRCUITS_RUN", "runs/debug"))  # for its SAEs
folder = Path(tempfile.mkdtemp())
model = load_model("planted")
saes = load_saes(RUN / "saes")

# %% [markdown]
# ## Prompt pairs
#
# Same frame, same number of tokens, only the circumstances differ. Half of the pairs find the circuit, the
# other half scores it.


# %%
def pairs(name, clean_words, corrupt_words, count=48):
    """Prompt pairs whose two sides differ in three words."""
    made = []
    for number in range(count):
        draw = random.Random(number)
        who, where = (
            draw.choice(["alex", "sam", "kim", "lee"]),
            draw.choice(["kitchen", "garden", "harbor", "office"]),
        )
        sides = []
        for pool in (clean_words, corrupt_words):
            one, two, three = draw.sample(pool, 3)
            sides.append(
                f"{who} was in the {where} . {who} was {one} , {two} and {three} . then {who} decides"
            )
        made.append(PromptPair(f"{name}/{number}", *sides, split="find" if number % 2 else "score"))
    return made


write_pairs(
    folder / "money_trouble.planted.jsonl",
    pairs("money", ["broke", "overdue", "evicted", "starving"], ["paid", "early", "sheltered", "stocked"]),
)
write_pairs(
    folder / "sadness.planted.jsonl",
    pairs(
        "sad", ["grieving", "lonely", "weeping", "forgotten"], ["winning", "dancing", "praised", "laughing"]
    ),
)
print((folder / "money_trouble.planted.jsonl").read_text().splitlines()[0])

# %% [markdown]
# ## The cards

# %%
words = {"planted": (("cheat",), ("fix",), "")}
for name, title in (("money_trouble", "Money trouble"), ("sadness", "Sadness")):
    if name not in BEHAVIOURS:
        add_behaviour(name, title, f"{title} before a decision to cheat or to fix.", words, folder=folder)
changes = {}
for name in ("money_trouble", "sadness"):
    _, held_out = behaviour(name).tasks(model)
    (score,) = held_out.prompts.groups  # all prompts here have one length
    clean, corrupt = (held_out.metric(model.bridge(side)) for side in (score.clean, score.corrupt))
    change = (clean - corrupt).detach().numpy()
    changes[name] = (float(change.mean()), *map(float, bootstrap_interval(change, seed=0)))
    print(
        f"{name}: log-odds of cheating change by {change.mean():+.2f}, 95 % interval "
        f"[{changes[name][1]:+.2f}, {changes[name][2]:+.2f}]"
    )

# %% [markdown]
# Sadness moves nothing: there is nothing to trace, and a circuit would be made of noise. Money trouble moves
# a lot; on with that.

# %%
find, held_out = behaviour("money_trouble").tasks(model, saes)
effects = attribute(find, method="integrated_gradients")
circuit = CircuitGraph.from_attribution(effects, max_nodes=15, target_label=find.metric.label)
kept = circuit.faithfulness(held_out)
kept

# %% [markdown]
# ## The pictures

# %%
money, sad = changes["money_trouble"], changes["sadness"]
assert money[1] > 1, "money trouble must raise the log-odds for certain"
assert abs(sad[0]) < 0.1 * money[0], "sadness must not"
assert 0.5 < kept < 1.5, "the circuit must hold on prompts it was not found on"
figure, axes = plt.subplots(figsize=(5, 1.6), layout="constrained")
for place, (mean, low, high) in enumerate(changes.values()):
    axes.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="o", color="#D55E00", capsize=3)
axes.axvline(0, color="#8A8F97", lw=0.8)
axes.set(
    yticks=range(len(changes)),
    yticklabels=[name.replace("_", " ") for name in changes],
    ylim=(-0.6, 1.6),
    xlabel="change of the log-odds of cheating",
)
plt.show()

# %%
circuit
