# %% [markdown]
# # 5. Your own model
#
# Any causal language model of a known family that lies in a directory (`config.json`, `model.safetensors`,
# tokenizer) goes the same way. Here it is the planted model; put the path of yours in its place. You load
# and check it, give it your own texts as JSONL, learn directions, and ask the question that matters first:
# does steering along a direction do more than along a random one?

# %%
import json
import os
import tempfile
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

import emocircuits as emo

folder = Path(tempfile.mkdtemp())
own = os.environ.get("EMOCIRCUITS_MODEL", "planted")

# %% [markdown]
# ## Load it: what was checked
#
# The residual stream adds up, gradients reach every site, logits equal Hugging Face's, hooks are gone
# afterwards. A model that fails a check is refused by name of the check.

# %%
model = emo.load_model(own)
print(model)
pd.DataFrame([(check.name, check.passed) for check in model.checks], columns=["check", "passed"])

# %% [markdown]
# ## Your texts
#
# One JSON object per line. Stories show an emotion without naming it; `neutral` texts are plain; `held_out`
# ones make no direction.

# %%
stories = folder / "stories.jsonl"
with stories.open("w", encoding="utf-8") as file:
    for text in emo.load_texts("planted", emo.CollectSettings(stories_per_emotion=40, neutral_texts=40)):
        keys = ("id", "text", "emotion", "topic", "kind", "split")
        file.write(json.dumps({key: getattr(text, key) for key in keys}) + "\n")
texts = emo.load_texts(stories)
print(len(texts), "texts, for instance:", texts[0].text)

# %% [markdown]
# The same from the command line, with every later stage:
#
# ```
# emocircuits run my.toml --model my_model --set collect.material=stories.jsonl --out runs/mine
# ```

# %%
store = emo.collect(model, texts, folder / "activations.h5", dtype="float32")
directions = emo.learn_directions(store, emo.DirectionSettings(from_token=12))
directions

# %% [markdown]
# ## Does it act?
#
# Prompts that end right before the choice, a push of a fraction of the mean residual norm, twenty random
# directions of the same length.

# %%
_, held_out = emo.behaviour("reward_hacking").tasks(model, limit=16)
task = held_out.swapped()  # what is steered are a task's clean prompts: now those without pressure
chosen = directions.with_controls(["desperate", "calm"], kinds=("random",))
found = emo.dose_response(model, [task], chosen, emo.DoseSettings(strengths=(-0.5, -0.25, 0.0, 0.25, 0.5)))
slopes = found.slopes[found.slopes.metric == "logit_diff"].set_index("direction")
slopes.loc[["desperate", "calm"], ["slope", "ci_low", "ci_high", "p_value"]].round(3)

# %%
random_slopes = slopes[slopes.kind == "random"].slope
assert slopes.loc["desperate", "slope"] > random_slopes.abs().max(), (
    "desperate must do more than any random direction"
)
assert slopes.loc["calm", "slope"] < 0, "and calm the opposite"
rates = found.table[found.table.metric == "rate"]
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
for name, rows in rates[rates.kind == "random"].groupby("direction"):
    axes.plot(
        rows.strength,
        rows.value,
        color="#C9CCD1",
        lw=0.8,
        label="random" if name == rates[rates.kind == "random"].direction.iloc[0] else None,
    )
for name, colour, line in (("desperate", "#D55E00", "-"), ("calm", "#0072B2", "--")):
    rows = rates[rates.direction == name]
    axes.plot(rows.strength, rows.value, line, color=colour, marker="o", label=name)
axes.set(xlabel="strength, share of the mean residual norm", ylabel="rate of cheating", ylim=(0, 1))
axes.legend()
plt.show()
