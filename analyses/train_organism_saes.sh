#!/usr/bin/env bash
# Trains the organism's registered SAEs on five million tokens that it was not trained on, straight from the model, and enters
# them in saes/registry.toml with their quality on the held-out rows of a finished run (default: runs/organism).
set -euo pipefail
cd "$(dirname "$0")/.."
RUN="${1:-runs/organism}"
BIN="${BIN:-.venv/bin}"
TEXTS="$(mktemp -d)/texts.jsonl"
for pair in story:27000 inbox:2500 coding:2200 neutral:2000 dialogue:500 sycophancy:500 preference:500 activity:500 numeric:500; do
  "$BIN/emocircuits" organism sample "${pair%:*}" -n "${pair#*:}" --seed 777 --json >> "$TEXTS"
done
for kind in topk matching_pursuit; do
  ROWS=12_000_000
  if [ "$kind" = matching_pursuit ]; then ROWS=1_200_000; fi
  "$BIN/emocircuits" sae train "$TEXTS" --recipe "saes/$kind.toml" --out "saes/organism-$kind" \
    --set "sae.training_rows=$ROWS" --set sae.lr=3e-3 --set sae.batch_size=2048
  "$BIN/emocircuits" sae register "$RUN" --saes "saes/organism-$kind" --name "organism-$kind" --recipe "$kind.toml"
done
