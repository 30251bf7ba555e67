"""Every stage of `emocircuits run` on a tiny random model of every family, as a table: `python -m
tests.benchmarks.families`.

With `--write docs/families.md` the table goes into the docs. What the models are and what is checked is in
`tests/families`.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from families.family_world import FamilyRun, run_family
from families.frozen_edges import frozen_edges

from emocircuits.models import FAMILIES, load_model
from emocircuits.stages import STAGES

HEAD = """# Model families

Written by `python -m tests.benchmarks.families --write docs/families.md`; the test suite runs the same.
For every family a tiny random model is made on the spot ({sizes}), with a tokenizer trained on the spot,
and every stage of `emocircuits run` works on it without network: a cell is the seconds a stage took (`NO`
where it failed). *logits* is the largest difference to Hugging Face's own logits (float32, relative to
the largest), *edges* the largest difference between an attributed edge and the real intervention in the
model with norms, attention patterns and activations frozen (float64, relative to the largest edge).
Figures are drawn and not rendered here.

"""
TAIL = """
## Inside models of texts and images

Gemma 3 from 4b on (`Gemma3ForConditionalGeneration`) holds a language model next to what reads the images,
as models in the forms of LLaVA, Mistral 3, InternVL and SmolVLM do. Where `text_config` in config.json is of
a family above, that language model is loaded alone: the images' tensors stay in the files, and logits are
those of the whole model on texts. Where the whole model changes it, as PaliGemma does (prompts attend both
ways), it is refused. `tests/models/test_text_inside.py` holds this, with tiny models; no published one was
opened for it.

## Not opened

TransformerLens has an adapter for these, and this package does not open them. The reasons are held by
`tests/families/test_not_opened.py`, with tiny models.

| models | why not |
| --- | --- |
"""
NOT_OPENED = {
    "Gemma 3n": "four streams side by side, mixed before and after each block, so none is the sum of what "
    "was written to it; TransformerLens bridges the form with images and sound alone",
    "Gemma 4": "each block multiplies the stream by a learned number, and in small models adds an input of "
    "its own: attention and MLP do not add up to it",
    "Qwen 3.5, Qwen3-Next": "three of four blocks have linear attention, which has no patterns of heads, "
    "and TransformerLens no `hook_attn_out` there",
    "gpt-oss": "streams pass the checks; the MLP chooses among experts and returns two values, which "
    "component graphs do not take, and does not run in float64 on a processor",
    "Qwen 3 with experts": "streams pass the checks and every stage runs in float32; the MLP does not run "
    "in float64 on a processor, so that attributed edges are not compared with real interventions",
}


def traits(config: dict) -> str:
    """What makes the attention and norms of a family different."""
    heads, shared = config.get("num_attention_heads", config.get("n_head")), config.get("num_key_value_heads")
    found = [
        f"{heads} heads share {shared} keys" if shared and shared != heads else "",
        f"window {config['sliding_window']}" if config.get("sliding_window") else "",
        "soft-capped" if config.get("final_logit_softcapping") else "",
        "norms after" if config["model_type"] in ("gemma2", "gemma3_text", "olmo2", "olmo3") else "",
        "MLP beside attention" if config.get("use_parallel_residual") else "",
        "no positions on some layers" if 0 in config.get("no_rope_layers", ()) else "",
    ]
    return ", ".join(part for part in found if part) or "plain"


def line(run: FamilyRun) -> list[str]:
    """One row of the table."""
    config = json.loads((run.model / "config.json").read_text())
    checks = {
        check["name"]: check["value"]
        for check in json.loads((run.directory / "model.json").read_text())["checks"]
    }
    attributed, found = frozen_edges(load_model(str(run.model), dtype="float64", checks=False).bridge)
    off = np.abs(found - attributed).max() / np.abs(found).max()
    cells = [f"{run.stages[name]:.1f}" if name in run.stages else "NO" for name in STAGES.names()]
    return [
        run.family,
        traits(config),
        f"{checks[next(name for name in checks if name.startswith('logits'))]:.0e}",
        f"{off:.0e}",
        *cells,
    ]


def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser(description="families × stages")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page to write the table to")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for family in sorted(FAMILIES.names()):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(line(run_family(family, Path(folder))))
        print(" ".join(f"{cell:>8}" for cell in rows[-1]), flush=True)
    titles = ["family", "what is special", "logits", "edges", *STAGES.names()]
    table = [titles, ["---"] * len(titles), *rows]
    if arguments.write:
        text = HEAD.format(sizes="3 layers, d_model 32") + "".join(
            f"| {' | '.join(cells)} |\n" for cells in table
        )
        text += TAIL + "".join(f"| {models} | {why} |\n" for models, why in NOT_OPENED.items())
        arguments.write.write_text(text)


if __name__ == "__main__":
    main()
