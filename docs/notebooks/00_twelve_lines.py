# %% [markdown]
# # 0. Twelve lines
#
# From a model to a tested circuit on a page. Everything that the command `emocircuits run` does is made of
# these functions, with the same defaults; the other notebooks take the steps one by one. On the organism the
# lines take about five minutes, most of it to train the SAEs, so this notebook is not run while the pages are
# built.

# %%
import emocircuits as emo

model = emo.load_model("organism")  # or a directory, a Hugging Face id

# %% [markdown]
# ## Texts, activations, directions
#
# Stories that show an emotion, neutral texts, and further texts for the SAEs; the residual stream at every
# token of them; one direction per emotion and layer, with controls. `emo.load_texts("stories.jsonl")` reads
# your own texts.

# %%
texts = emo.load_texts("organism")
store = emo.collect(model, texts, "acts.h5")  # layers=[10, 15, 20] on a large model
directions = emo.learn_directions(store)

# %% [markdown]
# ## Features, and the emotions they match
#
# One SAE per layer, and which features are more active in an emotion's stories than permuted labels explain.
# Training resumes where it was cut off; `emo.load_saes("saes")` opens what it left.

# %%
saes = emo.train_saes(store, "saes")  # or emo.load_saes("gemma-scope-2-1b-it-res", layers=[…])
matches = emo.match_features(store, saes, directions)

# %% [markdown]
# ## A circuit, and the test of it
#
# `find` holds the prompts that the circuit is found on, `held_out` those that it is scored on. Nodes are
# chosen together, joined by edges, and all of them patched for real. Faithfulness is the share of the
# behaviour that stays when everything else is ablated.

# %%
find, held_out = emo.behaviour("blackmail").tasks(model, saes)
effects = emo.attribute(find, method="integrated_gradients")
circuit = emo.choose_circuit(effects, find, max_nodes=60)  # what the circuit stage runs
print(emo.faithfulness(circuit, held_out))
emo.view(circuit, matches)

# %% [markdown]
# `emo.describe_circuit(circuit, effects, find, model, store, matches)` adds what a run keeps with a circuit:
# feature cards, mean activations, and the circuit over the tokens of one prompt.
#
# ## The same from a run
#
# `make demo` (or `emocircuits run`) keeps all of this in a directory, with controls and a report.

# %%
run = emo.Run.open("runs/organism")  # .model .directions .saes .matches .circuit("blackmail") .summary
