# %% [markdown]
# # 1. Emotion directions
#
# A direction is a difference of means: stories that show an emotion, minus the mean over emotions. Here you
# make directions from texts, check that they read stories they were not made from, and better than random
# directions do, and watch a text along them.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import emocircuits as emo

FULL = os.environ.get("EMOCIRCUITS_PROFILE", "tiny") == "full"
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A model and stories
#
# `tiny` is a Llama with weights set by hand, whose stories are made of circumstance words. `full` is the
# organism, whose stories come from its world and never name the emotion. For your own texts fill
# `LabelledText` yourself.

# %%
if FULL:
    model, start = emo.load_model("organism"), 20
    emotions = ("desperate", "calm", "happy", "sad", "angry", "afraid")
    few = emo.CollectSettings(emotions=emotions, stories_per_emotion=40, neutral_texts=100, further_texts=0)
    texts = emo.load_texts("organism", few)
else:
    model, start = emo.load_model("planted"), 12
    emotions = ("desperate", "calm", "happy", "sad")
    few = emo.CollectSettings(stories_per_emotion=50, neutral_texts=50)
    texts = emo.load_texts("planted", few)
texts[0]

# %% [markdown]
# ## Activations, then directions
#
# The store holds the residual stream after every layer, one row per token. Directions are learned from the
# `train` split; the AUROC is measured on `held_out`.

# %%
store = emo.collect(model, texts, folder / "activations.h5", dtype="float32")
directions = emo.learn_directions(store, emo.DirectionSettings(from_token=start), emotions=emotions)
table = directions.table()
table[table.site == directions.read_site][
    ["emotion", "norm", "held_out_auroc", "auroc_low", "auroc_high", "reliability"]
].round(3)

# %% [markdown]
# ## The control: is it the same direction again?
#
# Learned from two random halves of the stories, a real direction comes out twice, with a cosine near 1
# (`reliability`). What a cosine means here is said by random directions: in a space of few dimensions they
# are not at right angles either.

# %%
site = directions.read_site
place = directions.site_index(site)
desperate = directions.vector("desperate", site)
reliability = float(directions.quality["reliability"][place, directions.emotions.index("desperate")])
chance = np.abs(directions.controls["random"].vectors[place] @ desperate)
opposite = float(desperate @ directions.vector("calm", site))
print(
    f"two halves agree with cosine {reliability:.3f}; random directions reach "
    f"{chance.max():.2f}; calm {opposite:+.2f}"
)

# %% [markdown]
# ## A text along two directions
#
# Each token's projection, in units of the mean residual norm. The first position is an attention sink and has
# no reading. Click a name to switch, point at a token for its number.

# %%
text = next(story.text for story in texts if story.emotion == "desperate" and story.split == "held_out")
tokens = model.encode(text)
readings = emo.token_readings(model, directions, [tokens], ["desperate", "calm"])[0]
words = model.token_texts(tokens)
emo.reading_view(words, {"desperate": readings[:, 0], "calm": readings[:, 1]}, "A held-out story")

# %%
rows = [
    ("held-out story", token, words[token], emotion, readings[token, column])
    for column, emotion in enumerate(("desperate", "calm"))
    for token in range(1, len(words))
]
line = pd.DataFrame(rows, columns=["transcript", "position", "token", "emotion", "value"])
emo.draw_figure(emo.FIGURES.get("token_reading"), line)

# %% [markdown]
# ## What directions say about each other

# %%
reads = table[table.site == site].set_index("emotion").held_out_auroc
assert reads.min() > (0.7 if FULL else 0.95), "directions must read stories they were not made from"
assert opposite < 0 and reliability > chance.max(), "calm is the other way, and the direction comes out twice"
cosines = directions.vectors[place] @ directions.vectors[place].T
figure, axes = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
image = axes.imshow(cosines, cmap="PuOr_r", vmin=-1, vmax=1)
axes.set_xticks(range(len(directions.emotions)), directions.emotions, rotation=45, ha="right")
axes.set_yticks(range(len(directions.emotions)), directions.emotions)
figure.colorbar(image, label="cosine")
plt.show()
