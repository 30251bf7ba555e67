# %% [markdown]
# # 2. Sparse autoencoders and matches
#
# A direction says that something is there. Features say what it is made of. Here you look at the SAEs of a
# run, find the features that match *desperate*, and see what the match stands against.

# %%
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt

import emocircuits as emo

FULL = os.environ.get("EMOCIRCUITS_PROFILE", "tiny") == "full"
RUN = Path("runs/organism" if FULL else os.environ.get("EMOCIRCUITS_RUN", "runs/debug"))
run = emo.Run.make(RUN, "organism" if FULL else "analyses/recipes/debug.toml")
recipe = run.recipe

# %% [markdown]
# ## How good are the SAEs?
#
# `fvu` is the share of variance that no feature explains, `ce_loss_recovered` what that costs the model, `l0`
# how many features are on.

# %%
pd.read_csv(RUN / "saes.csv")[
    ["site", "architecture", "d_sae", "l0", "fvu", "ce_loss_recovered", "dead_fraction"]
].round(4)

# %% [markdown]
# ## Features that match
#
# `delta` is how much more active the feature is in stories of the emotion; p is family-wise over all features
# (labels permuted by story), q corrects over emotions. `kept` follows from those; cosine and AUROC help to
# understand a match.

# %%
matches = run.matches
columns = ["emotion", "site", "feature", "delta", "cosine", "auroc", "p_value", "q_value", "kept"]
matches.table[matches.table.emotion.isin([recipe.emotion, recipe.opposite])][columns].round(3).head(10)

# %% [markdown]
# ## One feature on a text
#
# The kept match of *desperate* that reads held-out stories best, token by token, on one of the run's held-out
# prompts.

# %%
own = matches.table[(matches.table.emotion == recipe.emotion) & matches.table.kept]
best = own.sort_values("auroc", ascending=False).iloc[0]
site, feature = best.site, int(best.feature)
pair = run.behaviour(recipe.behaviours[0]).score[0]
tokens = run.model.encode(pair.clean)

_, cache = run.model.bridge.run_with_cache(torch.tensor([tokens]), names_filter=[site])
activations = run.sae(site).encode(cache[site])[0, :, feature].detach().numpy()
emo.reading_view(run.model.token_texts(tokens), {f"feature {feature} at {site}": activations})

# %% [markdown]
# ## What it stands against
#
# The grey histogram is the best cosine that *any* feature of the dictionary reaches with random directions:
# with thousands of features some are always near. So a cosine alone proves little, and features are matched
# by what they do on stories: the lines are the cosines of matches that the permutation test kept, and the
# nearest lies beyond chance.

# %%
kept = matches.table[
    (matches.table.emotion == recipe.emotion) & matches.table.kept & (matches.table.site == site)
]
decoder = run.sae(site).W_dec.detach().numpy()
decoder = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
random = np.random.default_rng(0).normal(size=(1000, decoder.shape[1]))
best_random = (decoder @ (random / np.linalg.norm(random, axis=1, keepdims=True)).T).max(0)

beyond = float((best_random >= kept.cosine.max()).mean())
print(f"{beyond:.0%} of random directions have a feature as near as the nearest match is to {recipe.emotion}")
assert best.q_value <= recipe.match.q_value and best.auroc > 0.7, (
    "a match is significant and reads held-out stories"
)
assert kept.cosine.max() > np.quantile(best_random, 0.95), (
    "and one of them lies nearer to the direction than chance brings any"
)
figure, axes = plt.subplots(figsize=(5.4, 3), layout="constrained")
axes.hist(best_random, bins=30, color="#8A8F97", label="best cosine with a random direction")
for place, value in enumerate(kept.cosine):
    axes.axvline(
        value, color="#D55E00", lw=1.5, label=f"kept matches of {recipe.emotion}" if place == 0 else None
    )
axes.set(xlabel="cosine of the decoder row with the direction", ylabel="random directions")
axes.legend()
plt.show()
