# %% [markdown]
# # 1. Are emotions directions, and how good are they?
#
# **Question.** Does the residual stream hold a direction for each emotion that reads stories it was not made
# from? Does it take anything but chance to get one? How far is it from the best that any reader of the text
# could do?
#
# **Command.** `EMOCIRCUITS_RUN=runs/organism python analyses/01_directions.py`. A run is made where there is
# none (with the recipe `EMOCIRCUITS_RECIPE`); pictures and tables go to `<run>/studies/01_directions`.

# %%
import os

import pandas as pd

import emocircuits as emo

recipe = os.environ.get("EMOCIRCUITS_RECIPE")
run = emo.Run.make(os.environ.get("EMOCIRCUITS_RUN", "runs/organism"), recipe, until="directions")
out, directions = run.path("studies/01_directions"), run.directions
out.mkdir(parents=True, exist_ok=True)
directions

# %% [markdown]
# ## How well they read
#
# Difference of means is the paper's recipe. A linear discriminant sees the same differences through the
# spread of stories, so it reads better, but it is not the change that the emotion makes, and so not what one
# pushes along. On the organism two more columns say what is possible: `bayes_auroc`, the generator's own
# posterior given the text, and `linear_auroc`, the best straight line through what the sentences say.

# %%
estimators = ["difference_of_means", "linear_discriminant"]
quality = pd.DataFrame(emo.validate_directions(run.directory, estimators))
quality.to_csv(out / "quality.csv", index=False)
shown = (
    "estimator",
    "site",
    "auroc",
    "auroc_low",
    "auroc_high",
    "linear_auroc",
    "bayes_auroc",
    "reliability",
    "valence_r",
)
quality[[name for name in shown if name in quality]].round(3)

# %% [markdown]
# ## Against directions that mean nothing
#
# Random directions, isotropic and with the stories' covariance, and directions learned from permuted labels
# are scored on the same held-out stories as the emotion itself.

# %%
site, emotion = directions.read_site, run.recipe.emotion
aurocs = emo.control_aurocs(run)
controls = aurocs.groupby("kind", sort=False)["auroc"].agg(
    n="size", auroc="mean", lowest="min", highest="max"
)
controls = controls.reset_index()
controls.to_csv(out / "controls.csv", index=False)
controls.round(3)

# %% [markdown]
# ## What they look like

# %%
emo.show_figure(run.directory, "direction_quality", out)

# %%
emo.show_figure(run.directory, "emotion_similarity", out)

# %% [markdown]
# **Answer.** Yes: at the reading site the directions read held-out stories far above chance, and the
# emotion's own reads at least as well as the best of those that mean nothing. They stay below what the text
# allows.

# %%
line = quality[(quality["site"] == site) & (quality["estimator"] == directions.estimator)].iloc[0]
own = controls.iloc[0]
chance = aurocs[aurocs["kind"].isin(["random", "covariance", "shuffled"])]["auroc"]
assert line["auroc_low"] > 0.5, "the directions read no better than chance"
assert own["auroc"] >= chance.max(), f"directions that mean nothing read {emotion} as well"
assert "bayes_auroc" not in quality or (quality["auroc"] < quality["bayes_auroc"]).all(), (
    "no reader can beat the posterior"
)
print(
    f"held-out AUROC {line['auroc']:.3f} [{line['auroc_low']:.3f}, {line['auroc_high']:.3f}] at {site}; "
    f"{emotion} {own['auroc']:.3f}, best of {len(chance)} that mean nothing {chance.max():.3f}"
)
