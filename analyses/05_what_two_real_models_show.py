# %% [markdown]
# # 5. What two real models show
#
# **Question.** On the organism the causes are known. Do the same measurements say anything on real instruct
# models of 135 and 500 million parameters: do directions read emotions, do they act, and does *desperate*
# move blackmail or reward hacking?
#
# **Command.** `EMOCIRCUITS_RUN=runs/smollm2,runs/qwen python analyses/05_what_two_real_models_show.py`. Runs
# are made by `make smollm2` and by `emocircuits run --model FILE.gguf --profile quick --out runs/qwen` (where
# the weights come from: docs/own_model.md). Where none is named, the run of SmolLM2 that ships with the
# documentation is read; no model is loaded. Pictures and tables go to `studies/05_what_two_real_models_show`
# of the first run that was named, or here.

# %%
import os
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import emocircuits as emo

named = [Path(name) for name in os.environ.get("EMOCIRCUITS_RUN", "").split(",") if name]
runs = [emo.Run.open(path) for path in named or [Path("docs/runs/smollm2")]]
out = (named[0] if named else Path()) / "studies" / "05_what_two_real_models_show"
out.mkdir(parents=True, exist_ok=True)


def kept(rows, name):
    """Writes a table and shows it."""
    table = pd.DataFrame(rows)
    table.to_csv(out / f"{name}.csv", index=False)
    return table.round(3)


# %% [markdown]
# ## Do directions read?
#
# Held-out texts on topics that no direction was learned from; the mean over emotions of one against all
# others, with its 95 % interval.

# %%
kept(
    [
        {"model": run.summary["model"], **row}
        for run in runs
        for row in run.table("direction_sites.csv")[
            ["site", "auroc", "auroc_low", "auroc_high", "accuracy", "reliability"]
        ].to_dict("records")
    ],
    "reading",
)

# %% [markdown]
# ## Do they act?
#
# A push (of a tenth of the mean residual norm in the recipes of real models) on prompts without pressure;
# the change of the log-odds, and the largest change that any control direction of the same length makes:
# isotropic ones, ones with the covariance of stories, topics, shuffled labels. *Beyond* says whether an
# emotion does more than every control.


# %%
def pushes(run):
    """One row per behaviour and emotion, at the largest strength."""
    table = run.table("steering.csv")
    strength = table.strength.max()
    for behaviour, rows in table.groupby("behaviour", sort=False):
        base = rows[rows.strength == 0].logit_diff.mean()
        at = rows[(rows.strength - strength).abs() < 1e-9]
        effect = at.logit_diff - base
        control = effect[at.kind != "emotion"]
        for emotion, value in zip(
            at[at.kind == "emotion"].direction, effect[at.kind == "emotion"], strict=True
        ):
            least, most = control.min(), control.max()
            yield {
                "model": run.summary["model"],
                "behaviour": behaviour,
                "emotion": emotion,
                "effect": value,
                "controls_least": least,
                "controls_most": most,
                "controls": len(control),
                "beyond": value > most or value < least,
            }


acting = kept([row for run in runs for row in pushes(run)], "acting")
acting

# %%
figure, axes = plt.subplots(
    1, acting.groupby(["model", "behaviour"]).ngroups, figsize=(11, 3.4), layout="constrained", squeeze=False
)
for axis, ((model, behaviour), rows) in zip(
    axes[0], acting.groupby(["model", "behaviour"], sort=False), strict=True
):
    rows = rows.sort_values("effect")
    axis.axvspan(rows.controls_least.min(), rows.controls_most.max(), color="#E3E5E8")
    axis.scatter(rows.effect, rows.emotion, c=["#D55E00" if beyond else "#6B7280" for beyond in rows.beyond])
    axis.axvline(0, color="black", lw=0.6)
    axis.locator_params(axis="x", nbins=5)
    axis.set(title=f"{model}: {behaviour}", xlabel="change of the log-odds, nats (grey: all controls)")
figure.savefig(out / "acting.png", dpi=150)
plt.show()

# %% [markdown]
# ## How much do the words cover?
#
# A rate is a share of the behaviour's and the honest words; *coverage* is the probability that they have
# together.

# %%
kept(
    [
        {
            "model": run.summary["model"],
            "behaviour": name,
            "side": side,
            "rate": rate.rate,
            "coverage": rate.coverage,
            "first_option": rate.first_option,
        }
        for run in runs
        for name, scores in run.scores.items()
        for side, rate in scores.rates.sides.items()
    ],
    "coverage",
)

# %% [markdown]
# ## Circuits
#
# Faithfulness on held-out prompts with everything outside the circuit replaced by the calm prompt's, next
# to random circuits of the same size, and how well attribution predicts real patches.

# %%
circuits = kept(
    [
        {
            "model": run.summary["model"],
            "behaviour": name,
            "nodes": scores.nodes,
            "share_of_active": scores.nodes / scores.active_nodes,
            "faithfulness": scores.faithfulness,
            "low": scores.faithfulness_ci[0],
            "high": scores.faithfulness_ci[1],
            "random": scores.random_circuit_faithfulness,
            "pearson": scores.attribution_exact.pearson,
        }
        for run in runs
        for name, scores in run.scores.items()
    ],
    "circuits",
)
circuits

# %% [markdown]
# ## What follows
#
# In words that the tables above give.

# %%
for (model, behaviour), rows in acting.groupby(["model", "behaviour"], sort=False):
    beyond = rows[rows.beyond]
    desperate = rows[rows.emotion == "desperate"]
    moved = (
        ", ".join(f"{row.emotion} ({row.effect:+.2f} nats)" for row in beyond.itertuples()) or "no emotion"
    )
    verdict = (
        "does not stand out from the controls: no effect is shown"
        if not desperate.beyond.any()
        else "does stand out"
    )
    print(f"{model}, {behaviour}: beyond every control: {moved}.")
    print(f"    desperate ({desperate.effect.iloc[0]:+.2f}) {verdict}.")
for row in circuits.itertuples():
    more = "more" if row.low > row.random else "not certainly more"
    print(f"{row.model}, {row.behaviour}: the circuit keeps {row.faithfulness:.2f} of the effect, {more}")
    print(f"    than random ones ({row.random:.2f}).")
