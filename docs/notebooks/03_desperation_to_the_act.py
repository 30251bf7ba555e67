# %% [markdown]
# # 3. From desperation to the act
#
# The planted model cheats and the organism blackmails when circumstances are desperate. Here you trace what
# carries it: attribution of every feature, a circuit of the strongest, and the test of that circuit by
# cutting everything else off.

# %%
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt

from emocircuits import CircuitGraph, Node, Run, attention_view, attribute

FULL = os.environ.get("EMOCIRCUITS_PROFILE", "tiny") == "full"
RUN = Path("runs/organism" if FULL else os.environ.get("EMOCIRCUITS_RUN", "runs/debug"))
run = Run.make(RUN, "organism" if FULL else "analyses/recipes/debug.toml")
recipe = run.recipe
# blackmail on the organism, reward hacking (cheating) on the planted model
behaviour = run.recipe.behaviours[0]

# %% [markdown]
# ## The prompts and the metric
#
# A pair has the same number of tokens; only the circumstances differ. The metric is the log-odds of the act
# at the last token.

# %%
find, held_out = (task.at_sites(run.circuit_sites) for task in run.tasks(behaviour))
model, saes, pair = find.model, find.saes, find.prompts.groups[0]
texts = run.behaviour(behaviour).find[0]
print("clean:  ", texts.clean[-160:])
print("corrupt:", texts.corrupt[-160:])
print(f"{find.prompts} to find the circuit, {held_out.prompts} to score it")
with torch.no_grad():
    print(
        f"log-odds: {find.metric(model(pair.clean)).mean():+.2f} clean, "
        f"{find.metric(model(pair.corrupt)).mean():+.2f} corrupt"
    )

# %% [markdown]
# ## Where does the last token look?

# %%
tokens = pair.clean[:1]
with torch.no_grad():
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
patterns = torch.cat([cache[name][0] for name in cache]).numpy()
heads = patterns.shape[0] // len(cache)
names = [f"layer {layer} head {head}" for layer in range(len(cache)) for head in range(heads)]
attention_view(
    run.model.token_texts(tokens[0].tolist()), patterns.astype(float), names, "Attention on the clean prompt"
)

# %% [markdown]
# ## Attribution and the circuit
#
# One gradient path instead of one run per feature. Nodes stay whose effect is large *and* certain over
# prompts.

# %%
effects = attribute(find, method="integrated_gradients", edges=False)
circuit = CircuitGraph.from_attribution(
    effects, max_nodes=200 if FULL else 20, target_label=find.metric.label
)
effects.node_table().head(8)

# %% [markdown]
# ## Are the estimates true?
#
# The strongest nodes are patched for real, one after the other, on the same prompts.

# %%
checked = circuit.verify(find)
nodes = [node for node in checked.nodes if node.kind in ("feature", "error")]
guess, truth = [node.effect for node in nodes], [node.verified for node in nodes]
correlation = float(np.corrcoef(guess, truth)[0, 1])
print(f"attribution against real patches over {len(nodes)} nodes: r = {correlation:.3f}")

# %% [markdown]
# ## Is it enough?
#
# On prompts that had no part in finding it: everything outside the circuit gets its corrupt value. Next to it
# the same for random features, as many per layer.

# %%
kept = circuit.faithfulness(held_out)
rng = np.random.default_rng(0)
random_kept = []
for _ in range(5):
    drawn = []
    for site in saes:
        size = sum(node.site == site for node in circuit.nodes)
        others = [node for node in effects.nodes if f"/{site}" in node]
        drawn += list(rng.choice(others, size=min(size, len(others)), replace=False))
    random_circuit = CircuitGraph(behaviour, tuple(Node.of(node) for node in drawn), ())
    random_kept.append(float(random_circuit.faithfulness(held_out)))
print(f"{kept}; random circuits {np.round(random_kept, 2).tolist()}")

# %% [markdown]
# ## The picture
#
# The run's own circuit, live: the same nodes with the emotions they match, verified effects, controls, and
# the example prompt. Above it, what faithfulness stands against.

# %%
assert correlation > 0.8, "attribution must agree with real patches"
assert kept > 0.5 and kept > max(random_kept), (
    "the circuit must keep most of the effect, and more than chance"
)
pd.Series(
    {"circuit": float(kept), **{f"random {i}": value for i, value in enumerate(random_kept)}}
).plot.barh(
    figsize=(5.4, 2.2), color=["#D55E00", *["#8A8F97"] * 5], xlabel="faithfulness on held-out prompts"
)
plt.gca().invert_yaxis()
plt.show()

# %%
run.circuit(behaviour)
