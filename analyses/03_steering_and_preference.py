# %% [markdown]
# # 3. Does pushing along an emotion change what the model does and prefers?
#
# **Question.** Does a push along the direction move a behaviour more than every random and content direction
# of the same length, without breaking the model? And do emotions that go with being liked make things liked?
#
# **Command.** `EMOCIRCUITS_RUN=runs/organism python analyses/03_steering_and_preference.py`. A run is made
# where there is none (with the recipe `EMOCIRCUITS_RECIPE`); pictures and tables go to
# `<run>/studies/03_steering_and_preference`.

# %%
import os

import torch

import emocircuits as emo

recipe = os.environ.get("EMOCIRCUITS_RECIPE")
run = emo.Run.make(os.environ.get("EMOCIRCUITS_RUN", "runs/organism"), recipe, until="steer")
out, directions = run.path("studies/03_steering_and_preference"), run.directions
out.mkdir(parents=True, exist_ok=True)
emotion, opposite = run.recipe.emotion, run.recipe.opposite

# %% [markdown]
# ## The dial
#
# A strength is a fraction of the mean residual norm at the site. Inside the context every forward pass is
# pushed, generation included; behind it the model is as before.

# %%
behaviour = run.recipe.behaviours[0]
bound = run.behaviour(behaviour)
prompt = bound.pairs("score", 1)[0].corrupt
tokens = torch.tensor([run.model.encode(prompt)])
with torch.no_grad():
    before = bound.metric.rate(run.model.bridge(tokens)).item()
    with emo.steering(run.model, directions, {emotion: 0.25}):
        pushed = bound.metric.rate(run.model.bridge(tokens)).item()
    after = bound.metric.rate(run.model.bridge(tokens)).item()
print(f"{behaviour}: {before:.3f}, {pushed:.3f} with {emotion} at 0.25, {after:.3f} behind it")

# %% [markdown]
# ## Dose and response

# %%
emo.show_figure(run.directory, "steering", out)

# %%
slopes = run.table("steering_slopes.csv")
slopes = slopes[slopes["metric"] == "logit_diff"]
emotions = slopes[slopes["kind"] == "emotion"]
controls = (
    slopes[slopes["kind"].isin(["random", "content"])]
    .groupby("behaviour")["slope"]
    .agg(["min", "max", "size"])
)
emotions.to_csv(out / "slopes.csv", index=False)
emotions[["behaviour", "direction", "slope", "ci_low", "ci_high", "p_value"]].round(3)

# %%
emo.show_figure(run.directory, "coherence", out)

# %% [markdown]
# ## Preferences
#
# All ordered pairs of 64 activities give their Elo. An emotion's reading of an activity is compared with its
# Elo, and the push along the emotion on the tokens of half of the activities with the change of their Elo.
# (Left out where the recipe has no preferences.)

# %%
agreement = None
if run.path("preference_emotions.csv").is_file():
    agreement = emo.preference_agreement(run.table("preference_emotions.csv"))
    emo.show_figure(run.directory, "preference", out)
agreement

# %%
emo.show_figure(run.directory, "preference") if agreement else None

# %% [markdown]
# **Answer.** Yes: the emotion moves every behaviour up beyond all random and content directions, its opposite
# moves it down, and the log-odds return exactly behind the dial. Where preferences were asked, readings and
# effects go together over emotions.

# %%
for behaviour, line in controls.iterrows():
    own = emotions[emotions["behaviour"] == behaviour].set_index("direction")
    assert own.loc[emotion, "slope"] > line["max"], f"{behaviour}: a control moves it as far as {emotion}"
    assert own.loc[emotion, "p_value"] <= 0.05 and own.loc[opposite, "slope"] < own.loc[emotion, "slope"]
    print(
        f"{behaviour}: {emotion} {own.loc[emotion, 'slope']:+.2f}, {opposite} "
        f"{own.loc[opposite, 'slope']:+.2f}, {line['size']:.0f} controls {line['min']:+.2f} to "
        f"{line['max']:+.2f}"
    )
assert before == after and pushed != before, "steering must act, and end"
assert agreement is None or agreement["ci_low"] > 0, "readings and effects do not go together"
