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

from emocircuits import (
    CircuitGraph,
    attribute,
)
from emocircuits.artifacts.circuit import Node
from emocircuits.attribution import exact_patching
from emocircuits.runs.run import Run
from emocircuits.viewer.token_views import attention_view

FULL = os.environ.get("EMOCIRCUITS_PROFILE", "tiny") == "full"
RUN = Path("runs/organism" if FULL else os.environ.get("EMOCIRCUITS_RUN", "runs/debug"))
run = Run.make(RUN, "organism" if FULL else "analyses/recipes/debug.toml")
recipe = run.recipe
behaviour = run.recipe.behaviours[
    0
]  # blackmail on the organism, reward hacking (cheating) on the planted model

# %% [markdown]
# ## The prompts and the metric
#
# A pair has the same number of tokens; only the circumstances differ. The metric is the log-odds of the act
# at the last token.

# %%
bound = run.behaviour(behaviour)
model, saes = run.model.bridge, {site: run.sae(site) for site in run.circuit_sites}
find = max(run.pairs(behaviour, "find", 24), key=len)
score = max(run.pairs(behaviour, "score", 24), key=len)
print("clean:  ", bound.find[0].clean[-160:])
print("corrupt:", bound.find[0].corrupt[-160:])
with torch.no_grad():
    print(
        f"log-odds: {bound.metric(model(find.clean)).mean():+.2f} clean, "
        f"{bound.metric(model(find.corrupt)).mean():+.2f} corrupt"
    )

# %% [markdown]
# ## Where does the last token look?

# %%
tokens = find.clean[:1]
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
effects = attribute(
    model,
    find.clean,
    find.corrupt,
    bound.metric,
    saes=saes,
    method="integrated_gradients",
    behaviour=behaviour,
)
circuit = CircuitGraph.from_attribution(
    effects, max_nodes=200 if FULL else 20, target_label=" / ".join(bound.material.targets)
)
effects.node_table().head(8)

# %% [markdown]
# ## Are the estimates true?
#
# The strongest nodes are patched for real, one after the other, on the same prompts.

# %%
nodes = [node.id for node in circuit.nodes if node.kind in ("feature", "error")]
exact = exact_patching(model, saes, [find], bound.metric, nodes=nodes)
truth = dict(zip(exact.nodes, exact.effects.mean(0), strict=True))
guess = dict(zip(effects.nodes, effects.effects.mean(0), strict=True))
correlation = float(np.corrcoef([guess[node] for node in nodes], [truth[node] for node in nodes])[0, 1])
print(f"attribution against real patches over {len(nodes)} nodes: r = {correlation:.3f}")

# %% [markdown]
# ## Is it enough?
#
# On prompts that had no part in finding it: everything outside the circuit gets its corrupt value. Beside it
# the same for random features, as many per layer.

# %%
kept = circuit.faithfulness(model, score.clean, score.corrupt, bound.metric, saes)
rng = np.random.default_rng(0)
random_kept = []
for _ in range(5):
    drawn = []
    for site in saes:
        size = sum(node.site == site for node in circuit.nodes)
        others = [node for node in effects.nodes if f"/{site}" in node]
        drawn += list(rng.choice(others, size=min(size, len(others)), replace=False))
    random_circuit = CircuitGraph(behaviour, tuple(Node.of(node) for node in drawn), ())
    random_kept.append(
        float(random_circuit.faithfulness(model, score.clean, score.corrupt, bound.metric, saes))
    )
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
