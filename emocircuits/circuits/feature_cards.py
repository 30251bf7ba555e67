"""What a feature card shows: matched emotions, the tokens a feature writes, and the texts where it is most
active.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.models import LanguageModel
from emocircuits.names import parse_node
from emocircuits.sae.dictionary import Dictionary, open_dictionaries
from emocircuits.sae.loading.pretrained import neuronpedia_url

N_EMOTIONS, N_TOKENS, N_EXAMPLES = 4, 8, 4
BEFORE, AFTER = 14, 5
BLOCK = 8192
ASKED = 64  # rows that the SAE is asked about first


def feature_cards(
    model: LanguageModel,
    saes: Mapping[str, Any],
    store: ActivationStore,
    matches: FeatureMatches,
    nodes: Sequence[str],
    *,
    max_rows: int = 120_000,
) -> dict[str, dict[str, Any]]:
    """Details of every feature node.

    Args:
        model: the model.
        saes: site -> SAE.
        store: activations the examples come from (evenly thinned texts up to `max_rows` rows, sink left out).
        matches: scores of features against emotions.
        nodes: node ids; those that are no features are skipped.
        max_rows: rows of the store that are searched for examples.

    Returns:
        node id -> `emotions` (delta, cosine, auroc, q_value), `top_tokens`, `bottom_tokens` (direct effect of
        the decoder row on the logits), `examples` (tokens and activations around the strongest firings, each
        from another text).
    """
    by_site: dict[str, dict[int, str]] = {}
    for text in nodes:
        node = parse_node(text)
        if node.kind == "feature":
            by_site.setdefault(node.site, {})[node.feature] = text
    cards: dict[str, dict[str, Any]] = {}
    for site, features in by_site.items():
        order = sorted(features)
        top, bottom = _written_tokens(model, saes[site].W_dec.detach()[order])
        examples = _examples(model, saes[site], store, site, order, max_rows)
        for place, feature in enumerate(order):
            cards[features[feature]] = {
                "emotions": matched_emotions(matches, site, feature),
                "top_tokens": top[place],
                "bottom_tokens": bottom[place],
                "examples": examples[place],
            }
            link = neuronpedia_url(saes[site], feature)
            if link:
                cards[features[feature]]["neuronpedia"] = link
    return cards


def card_label(node: str, card: dict[str, Any] | None, default: str) -> str:
    """A label people can read: the matched emotion, else the token of the strongest firing, with layer and
    feature number.
    """
    parsed = parse_node(node)
    if card is None or parsed.feature is None:
        return default
    matched = [
        one["emotion"] for one in card["emotions"] if one["q_value"] is not None and one["q_value"] <= 0.05
    ]
    peaks = [
        one["tokens"][int(np.argmax(one["values"]))].strip() for one in card["examples"] if one["tokens"]
    ]
    name = matched[0] if matched else f"“{peaks[0]}”" if peaks else ""
    return f"{name} {parsed.layer}#{parsed.feature}".strip()


def matched_emotions(matches: FeatureMatches, site: str, feature: int) -> list[dict[str, Any]]:
    """The emotions of a feature: those that it matches, then those that it responds to most."""
    place = matches.sites.index(site)
    delta, cosine, auroc = (matches.scores[name][place, :, feature] for name in ("delta", "cosine", "auroc"))
    kept = matches.table[(matches.table["site"] == site) & (matches.table["feature"] == feature)].set_index(
        "emotion"
    )
    order = sorted(
        range(len(matches.emotions)), key=lambda e: (matches.emotions[e] not in kept.index, -float(delta[e]))
    )[:N_EMOTIONS]
    return [
        {
            "emotion": matches.emotions[e],
            "delta": float(delta[e]),
            "cosine": float(cosine[e]),
            "auroc": float(auroc[e]),
            "q_value": float(kept.loc[matches.emotions[e], "q_value"])
            if matches.emotions[e] in kept.index
            else None,
        }
        for e in order
    ]


@torch.no_grad()
def _written_tokens(model: LanguageModel, rows: torch.Tensor) -> tuple[list[list[str]], list[list[str]]]:
    hf = model.bridge.original_model
    scale = getattr(model.bridge.ln_final, "weight", None)
    written = rows.float() if scale is None else rows.float() * scale.float()
    logits = written @ hf.get_output_embeddings().weight.float().T
    best = logits.topk(N_TOKENS, dim=1).indices.tolist()
    worst = (-logits).topk(N_TOKENS, dim=1).indices.tolist()
    return [model.token_texts(ids) for ids in best], [model.token_texts(ids) for ids in worst]


@torch.no_grad()
def _examples(
    model: LanguageModel, sae: Any, store: ActivationStore, site: str, features: list[int], max_rows: int
) -> list[list[dict[str, Any]]]:
    """For every feature the texts where it is most active, each around its peak."""
    lengths, offsets = store.prompts["n_tokens"].to_numpy(), store.prompts["offset"].to_numpy()
    chosen = np.arange(0, len(lengths), max(1, -(-int(lengths.sum()) // max_rows)))
    rows = np.concatenate([np.arange(offsets[text], offsets[text] + lengths[text]) for text in chosen])
    text_of = np.repeat(np.arange(len(chosen)), lengths[chosen])
    later = store.positions[rows] != 0  # not the first token, where attention sinks
    dictionary = open_dictionaries({site: sae})[site]
    read = partial(store.read, site)
    peaks = _peaks(dictionary, read, rows[later], text_of[later], features)
    found = []
    for place, feature in enumerate(features):
        best = [p for p in np.argsort(-peaks[:, place], kind="stable")[:N_EXAMPLES] if peaks[p, place] > 0]
        found.append([_window(model, dictionary, store, feature, int(chosen[p])) for p in best])
    return found


def _peaks(
    dictionary: Dictionary,
    read: Callable[[np.ndarray], np.ndarray],
    rows: Int[np.ndarray, "row"],
    text_of: Int[np.ndarray, "row"],
    features: list[int],
) -> Float[np.ndarray, "text feature"]:
    """The largest activation of each feature on each text; on texts that are not among its best `N_EXAMPLES`
    it may be less.

    Where an activation is the preactivation or 0, the SAE is asked about the rows of the largest
    preactivations, more and more of them, until no other row can matter; otherwise about all rows.
    """
    peaks = np.zeros((int(text_of.max()) + 1, len(features)), dtype=np.float32)
    weights, bias = dictionary.encoder[:, features], dictionary.encoder_bias[features]
    blocks = [slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK)]

    def note(some: np.ndarray) -> None:
        for start in range(0, len(some), BLOCK):
            now = some[start : start + BLOCK]
            acts = dictionary.encode(torch.from_numpy(read(rows[now])))
            np.maximum.at(peaks, text_of[now], acts[:, features].numpy())

    if not dictionary.gates:
        note(np.arange(len(rows)))
        return peaks
    hidden = np.concatenate(
        [torch.addmm(bias, torch.from_numpy(read(rows[here])), weights).numpy() for here in blocks]
    )
    left, count = np.arange(len(features)), ASKED
    while len(left) and count < len(rows):
        order = np.argpartition(-hidden[:, left], count, axis=0)[: count + 1]
        note(np.unique(order))
        bound = hidden[order[-1], left]  # of the rows that were not asked about
        left = left[bound > np.sort(peaks[:, left], axis=0)[-N_EXAMPLES:][0]]
        count *= 4
    if len(left):
        note(np.arange(len(rows)))
    return peaks


def _window(
    model: LanguageModel, dictionary: Dictionary, store: ActivationStore, feature: int, prompt: int
) -> dict[str, Any]:
    offset, length = int(store.prompts["offset"].iloc[prompt]), int(store.prompts["n_tokens"].iloc[prompt])
    rows = np.arange(offset, offset + length)
    stream = torch.from_numpy(store.read(dictionary.site, rows))
    values = dictionary.encode(stream)[:, feature].numpy()
    values[0] = 0
    peak = int(values.argmax())
    first, last = max(1, peak - BEFORE), min(length, peak + AFTER + 1)
    line = store.prompts.iloc[prompt]
    return {
        "tokens": model.token_texts(store.tokens[rows][first:last].tolist()),
        "values": [round(float(v), 4) for v in values[first:last]],
        "text": str(line["id"]),
        "emotion": str(line["emotion"]),
        "kind": str(line["kind"]),
    }
