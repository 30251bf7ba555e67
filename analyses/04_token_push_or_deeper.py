# %% [markdown]
# # 4. Does an emotion push the tokens, or does it act through deeper computation?
#
# **Question.** Steering along *desperate* changes what the model does. The direction could do so by itself:
# what it adds to the stream reaches the unembedding and lifts the behaviour's tokens. Or later attention and
# MLPs read it and act on it. Sofroniew et al. (2026) leave that open.
#
# **Command.** `EMOCIRCUITS_RUN=runs/organism python analyses/04_token_push_or_deeper.py`. A run is made where
# there is none (with the recipe `EMOCIRCUITS_RECIPE`); pictures and tables go to
# `<run>/studies/04_token_push_or_deeper`.

# %%
import os

import numpy as np
import pandas as pd

import emocircuits as emo

run = emo.Run.make(
    os.environ.get("EMOCIRCUITS_RUN", "runs/organism"), os.environ.get("EMOCIRCUITS_RECIPE"), until="evaluate"
)
out, emotion = run.path("studies/04_token_push_or_deeper"), run.recipe.emotion
out.mkdir(parents=True, exist_ok=True)
trace = run.table("trace.csv")

# %% [markdown]
# ## The answer, by what reads the push
#
# The effect of the push on held-out prompts without pressure, integrated over its strength and split exactly
# into what the logits read directly and what each kind of reader behind the site reads. The same for the
# opposite emotion, for content directions and for random ones of the same norm.

# %%
for behaviour, rows in trace.groupby("behaviour", sort=False):
    print(f"{behaviour}: {emo.route_verdict(rows, emotion)}\n")
routes = trace[trace["split"].isin(["routes", "whole"])]
answer = routes.pivot_table(
    index=["behaviour", "kind", "direction"], columns="part", values="amount", sort=False
)
parts = routes[routes["split"] == "routes"]["part"].unique()
answer = answer[["whole", *parts]]
answer.to_csv(out / "routes.csv")
answer.round(3)

# %%
emo.show_figure(run.directory, "trace", out)

# %% [markdown]
# ## Real interventions
#
# Nothing above is taken on trust: the push is really given to the logits alone, and to everything but the
# logits.

# %%
real = trace[(trace["split"] == "real") & (trace["kind"] == "emotion")]
real.to_csv(out / "real.csv", index=False)
real[["behaviour", "direction", "part", "amount", "ci_low", "ci_high", "share"]].round(3)

# %% [markdown]
# ## What it has become at the reading site
#
# Change of each feature times the mean gradient over the strength: the matched features, all others, and what
# the SAE does not reconstruct.

# %%
site = trace["split"].str.startswith("blocks.")
whole_parts = trace["part"].isin(["matched features", "other features", "error", "remainder"])
features = trace[site & whole_parts & (trace["direction"] == emotion)]
features.to_csv(out / "features.csv", index=False)
features[["behaviour", "split", "part", "amount", "ci_low", "ci_high", "share"]].round(3)

# %% [markdown]
# ## Strongest paths, and what the behaviours share

# %%
paths = run.table("paths.csv")
paths.to_csv(out / "paths.csv", index=False)
paths.groupby("behaviour").head(4)[["behaviour", "path", "amount", "share_of_source"]].round(3)

# %%
shared = pd.DataFrame(run.document("overlap.json")["pairs"])
shared.drop(columns="nodes", errors="ignore").round(3)

# %% [markdown]
# ## Are the circuits right?
#
# Faithfulness on held-out prompts, beside a random circuit of the same size.

# %%
scores = run.scores
quality = pd.DataFrame(
    [
        {
            "behaviour": name,
            **{
                key: getattr(one, key)
                for key in (
                    "nodes",
                    "candidates",
                    "faithfulness",
                    "random_circuit_faithfulness",
                    "completeness",
                )
            },
            "stability": one.stability.jaccard,
            "pearson": one.attribution_exact.pearson,
            "slope": one.attribution_exact.slope,
        }
        for name, one in scores.items()
    ]
)
quality.to_csv(out / "circuits.csv", index=False)
quality.round(3)

# %% [markdown]
# **Answer.** See the sentences printed above: they are computed from this run. On the organism, pushing along
# *desperate* works through what later attention reads, and the direct push on the tokens is small or works
# against it; random directions of the same norm do little, and their direct share is arbitrary.

# %%
for behaviour, rows in trace.groupby("behaviour"):
    for direction, group in rows.groupby("direction"):
        whole = group.loc[group["split"] == "whole", "amount"].iloc[0]
        assert np.isclose(
            group.loc[group["split"] == "routes", "amount"].sum(), whole, atol=1e-6 + 1e-4 * abs(whole)
        ), (behaviour, direction)
assert (quality["faithfulness"] > quality["random_circuit_faithfulness"]).all()
