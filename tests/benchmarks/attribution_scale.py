"""Memory of node attribution on long prompts: peak resident memory next to what a dense form would take.

    python -m tests.benchmarks.attribution_scale            # 4,000 tokens, 12 layers, d 768, d_sae 16,384
    python -m tests.benchmarks.attribution_scale --quick    # a small version, the one the test suite runs

Weights and SAEs are random: memory does not depend on what they say. Each measurement is a process of its
own; its peak is what the system says the process ever held.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

BAR_GIB = 12.0
FULL = {
    "positions": 4000,
    "layers": 12,
    "d_model": 768,
    "heads": 12,
    "d_vocab": 50257,
    "d_sae": 16384,
    "k": 32,
}
QUICK = {"positions": 768, "layers": 3, "d_model": 64, "heads": 4, "d_vocab": 500, "d_sae": 4096, "k": 16}


def random_world(settings: dict):
    """A random model, a TopK SAE at every layer and one pair of prompts, in float32."""
    import torch
    from sae_lens import SAE
    from sae_lens.saes.sae import SAEMetadata
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    from emocircuits.names import residual_site

    torch.manual_seed(0)
    width = settings["d_model"]
    model = HookedTransformer(
        HookedTransformerConfig(
            n_layers=settings["layers"],
            d_model=width,
            n_ctx=settings["positions"],
            d_head=width // settings["heads"],
            n_heads=settings["heads"],
            d_mlp=4 * width,
            d_vocab=settings["d_vocab"],
            act_fn="gelu",
            normalization_type="LN",
            device="cpu",
            seed=0,
        )
    )
    model.requires_grad_(False)
    saes = {}
    for layer in range(settings["layers"]):
        site = residual_site(layer)
        sae = SAE.from_dict(
            {
                "architecture": "topk",
                "k": settings["k"],
                "d_in": width,
                "d_sae": settings["d_sae"],
                "dtype": "float32",
                "device": "cpu",
                "apply_b_dec_to_input": True,
                "normalize_activations": "none",
                "reshape_activations": "none",
                "metadata": SAEMetadata(hook_name=site).to_dict(),
            }
        )
        with torch.no_grad():
            sae.W_dec.copy_(torch.nn.functional.normalize(torch.randn(settings["d_sae"], width), dim=-1))
            sae.W_enc.copy_(sae.W_dec.T)
        saes[site] = sae.requires_grad_(False)
    clean, corrupt = torch.randint(0, settings["d_vocab"], (2, 1, settings["positions"]))
    return model, saes, clean, corrupt


def difference(logits):
    """A logit difference at the last position."""
    return logits[:, -1, 3] - logits[:, -1, 5]


def peak_gib() -> float:
    """The most this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


def measure_here(settings: dict) -> dict:
    """Node attribution of all sites, in this process."""
    import emocircuits

    world = random_world(settings)
    before, start = peak_gib(), time.perf_counter()
    model, saes, clean, corrupt = world
    result = emocircuits.attribute(model, clean, corrupt, difference, saes=saes, edges=False)
    return {
        "peak_gib": peak_gib(),
        "before_gib": before,
        "seconds": time.perf_counter() - start,
        "nodes": len(result.nodes),
    }


def measured(settings: dict) -> dict:
    """The same in a process of its own, with what dense features would take besides."""
    command = [sys.executable, "-m", "tests.benchmarks.attribution_scale", "--inside", json.dumps(settings)]
    found = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )
    # clean, corrupt and changed activations and their gradients at every site
    found["dense_features_gib"] = (
        4 * 4 * settings["positions"] * settings["layers"] * settings["d_sae"] / (1 << 30)
    )
    return found


def main() -> int:
    """Prints the peak next to the bar; 1 where it is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small model")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(measure_here(json.loads(given.inside))))
        return 0
    settings = QUICK if given.quick else FULL
    found = measured(settings)
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    print(f"peak memory          {found['peak_gib']:6.2f} GiB   bar {BAR_GIB:.0f} GiB")
    print(f"model and SAEs alone {found['before_gib']:6.2f} GiB")
    print(f"dense features alone {found['dense_features_gib']:6.2f} GiB (not made)")
    print(f"{found['nodes']} nodes in {found['seconds']:.0f} s")
    return int(found["peak_gib"] > BAR_GIB)


if __name__ == "__main__":
    sys.exit(main())
