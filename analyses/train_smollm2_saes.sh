#!/usr/bin/env bash
# Trains SmolLM2's registered SAEs as they were trained: the recipe's run with its own SAEs, which are entered in
# saes/registry.toml with their quality on its held-out rows.
set -euo pipefail
cd "$(dirname "$0")/.."
RUN="${1:-runs/smollm2-train}"
BIN="${BIN:-.venv/bin}"
"$BIN/emocircuits" run analyses/recipes/smollm2.toml --out "$RUN" --set sae_source.registered=
rm -rf saes/smollm2-topk
cp -r "$RUN/saes" saes/smollm2-topk
"$BIN/emocircuits" sae register "$RUN" --saes saes/smollm2-topk --name smollm2-topk --recipe smollm2.toml
