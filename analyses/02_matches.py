# %% [markdown]
# # 2. Which SAE features carry an emotion?
#
# **Question.** Which features are more active in an emotion's stories than permuted labels can explain? Are
# they the emotion's own? Do they carry what pushing along its direction does?
#
# **Command.** `EMOCIRCUITS_RUN=runs/organism python analyses/02_matches.py`. A run is made where there is
# none (with the recipe `EMOCIRCUITS_RECIPE`); pictures and tables go to `<run>/studies/02_matches`.

# %%
import os

import numpy as np
import pandas as pd

import emocircuits as emo

recipe = os.environ.get("EMOCIRCUITS_RECIPE")
run = emo.Run.make(os.environ.get("EMOCIRCUITS_RUN", "runs/organism"), recipe, until="steer")
out, matches, emotion = run.path("studies/02_matches"), run.matches, run.recipe.emotion
out.mkdir(parents=True, exist_ok=True)
study = emo.MatchStudy(run)
matches

# %% [markdown]
# ## The table of one emotion
#
# `delta` is exact: the direction before any projection is Σ Δf · W_dec plus a rest (`residual_share`).
# `p_value` is family-wise over all features of all sites, `q_value` is corrected over emotions, and `also`
# names the two other emotions the feature is most active for: few features belong to one emotion alone.

# %%
table = study.emotion_table(emotion)
table.to_csv(out / f"{emotion}.csv", index=False)
table[
    ["site", "feature", "kept", "delta", "attribution", "auroc", "cosine", "specificity", "q_value", "also"]
].round(3)

# %%
emo.show_figure(run.directory, "match_null", out)

# %% [markdown]
# ## What decoder cosine is worth
#
# The largest decoder cosine over all features, for directions that mean nothing: directions from permuted
# labels lie where the dictionary is dense, so they pass a test against isotropic random directions far more
# often than its 5 %.

# %%
nominal = pd.DataFrame(
    matches.null["cosine_false_positives"], index=list(matches.sites), columns=["isotropic", "covariance"]
)
nominal.rename_axis("site").to_csv(out / "cosine_false_positives.csv")
nominal.round(3)

# %% [markdown]
# ## Next to what features must beat

# %%
readers = pd.DataFrame(study.compare())
readers.to_csv(out / "readers.csv", index=False)
readers.round(3)

# %% [markdown]
# ## Do they act?
#
# The direction is pushed, and the features that write most of it (at most 2 % of the dictionary) are held at
# their unsteered values: the share of the effect that is gone ran through them.

# %%
emo.show_figure(run.directory, "mediation", out)

# %%
emo.show_figure(run.directory, "causal_check", out)

# %% [markdown]
# **Answer.** The kept features pass a null that looks for the best of all of them, the rest that no feature
# carries is small, and the carriers hold more of the effect of pushing than any random set that fires as
# often.

# %%
mediated = run.table("mediation.csv")
matched = mediated[mediated["held"] == "matched"].set_index("behaviour")["mediated"]
random = mediated[mediated["kind"] == "random"].groupby("behaviour")["mediated"].max()
kept = table[table["kept"]]
assert len(kept) and (kept["delta"] > 0).all() and (kept["q_value"] <= run.recipe.match.q_value).all(), (
    "nothing was kept"
)
assert float(np.median(matches.residual_share)) < 0.5, "most of the directions lies in the SAEs' errors"
assert (matched > random).all(), "random features carry as much of the effect"
print(
    f"{len(kept)} kept for {emotion}, rest {np.median(matches.residual_share):.1%}; carried: "
    + ", ".join(f"{name} {share:.2f} (random at most {random[name]:.2f})" for name, share in matched.items())
)
