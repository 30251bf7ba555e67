"""Token push or deeper computation: what a trace says, in one sentence with its numbers and controls."""

import pandas as pd

ROUTES = ("direct", "attention values", "attention queries and keys", "MLPs", "remainder")


def route_verdict(rows: pd.DataFrame, emotion: str) -> str:
    """The sentence for one behaviour.

    Args:
        rows: rows of `trace.csv` of one behaviour.
        emotion: the emotion asked about.
    """
    own = rows[(rows["direction"] == emotion) & (rows["kind"] == "emotion")].set_index(["split", "part"])
    if own.empty or ("whole", "whole") not in own.index:
        return f"{emotion} was not traced."
    whole, direct = own.loc[("whole", "whole")], own.loc[("routes", "direct")]
    if whole["ci_low"] <= 0 <= whole["ci_high"]:
        return (
            f"Pushing along {emotion} changes the logit difference by {whole['amount']:+.2f} "
            f"[{whole['ci_low']:+.2f}, {whole['ci_high']:+.2f}], which is not told from nothing: there is "
            "no effect to split."
        )
    sends = (
        "none of it goes directly to the tokens"
        if abs(direct["share"]) < 0.05
        else (
            f"{direct['share']:.0%} of it goes directly to the tokens"
            if direct["share"] > 0
            else f"the direct push on the tokens works against it ({direct['share']:.0%})"
        )
    )
    parts = [(part, own.loc[("routes", part)]) for part in ROUTES[1:-1] if ("routes", part) in own.index]
    deeper = max(parts, key=lambda item: abs(item[1]["amount"])) if parts else None
    through = f"; the largest deeper route is {deeper[0]} ({deeper[1]['share']:.0%})" if deeper else ""
    kind = "deeper computation" if direct["share"] < 0.5 else "mostly a push on the tokens"
    return (
        f"Pushing along {emotion} changes the logit difference by {whole['amount']:+.2f} "
        f"[{whole['ci_low']:+.2f}, {whole['ci_high']:+.2f}]; {sends}{through}: {kind}. "
        f"{_beside(rows, whole['amount'])}"
    )


def _beside(rows: pd.DataFrame, amount: float) -> str:
    wholes = rows[(rows["split"] == "whole") & (rows["kind"] != "emotion")]
    if wholes.empty:
        return "No control was traced."
    said = []
    for kind, group in wholes.groupby("kind", sort=False):
        largest = float(group["amount"].abs().max())
        said.append(f"{len(group)} {kind} directions of the same norm change it by at most {largest:.2f}")
    beyond = (
        "beyond all of them"
        if abs(amount) > float(wholes["amount"].abs().max())
        else "not beyond all of them"
    )
    return f"{'; '.join(said)}: the effect is {beyond}."
