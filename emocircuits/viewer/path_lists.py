"""The strongest paths of a view, by where they start."""

from typing import Any

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.limits import PAGE_PATHS
from emocircuits.viewer.compact import short
from emocircuits.viewer.path_shares import fractions, largest_shares, reach, starting_points


def path_lists(graph: CircuitGraph, evidence: CircuitEvidence, index: dict[str, int]) -> list[dict[str, Any]]:
    """Per starting point and target: what reaches the target through it, and the strongest paths as node
    numbers.
    """
    links, effects = fractions(graph), {node.id: node.effect for node in graph.nodes}
    targets = [node.id for node in graph.nodes if node.kind == "target"]
    given: dict[tuple[str, str], list[list[Any]]] = {}
    for path in evidence.paths:
        if all(node in index for node in path.nodes):
            turned = -1 if (path.effect or 0.0) < 0 else 1
            item = [short(path.share), turned, *(index[node] for node in path.nodes)]
            given.setdefault((path.emotion, path.nodes[-1]), []).append(item)
    lists = []
    for start, sources in starting_points(graph).items():
        for target in targets:
            total = reach(links, sources, target)
            chosen = given.pop((start, target), None) or [
                [short(path.share), path.sign, *(index[node] for node in path.nodes)]
                for path in largest_shares(links, sources, target, k=PAGE_PATHS, effects=effects)
            ]
            if chosen:
                lists.append(
                    {
                        "from": start,
                        "to": index[target],
                        "total": short(total),
                        "count": len(sources),
                        "list": chosen,
                    }
                )
    lists += [
        {"from": start, "to": index[target], "list": chosen} for (start, target), chosen in given.items()
    ]
    if given or any(path.nodes[-1] in index for path in evidence.paths):
        for item in lists:
            item["measure"] = evidence.measure
    return sorted(
        lists,
        key=lambda item: (item["from"] != "", item["from"] != evidence.emotion, -(item.get("total") or 0.0)),
    )
