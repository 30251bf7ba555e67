"""The table of matches in the report: features of a known SAE are links."""

import json
import re

from fixtures.make_run import make_run

from emocircuits.report.parts.matches import build
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import read_run


def test_matched_features_of_a_known_sae_link_to_their_pages(tmp_path):
    run = make_run(tmp_path / "run")
    first, second = list(dict.fromkeys(read_run(run).matches.site))[:2]
    for site, name in ((first, "gemma-2-2b/12-res"), (second, 'x/y"onclick="z')):
        (run / "saes" / site).mkdir(parents=True, exist_ok=True)
        (run / "saes" / site / "cfg.json").write_text(json.dumps({"metadata": {"neuronpedia_id": name}}))
    links = set(re.findall(r'<a href="(https?:[^"]*)"', build(read_run(run), Pictures(run))))
    features = read_run(run).matches.query("site == @first").feature
    assert links == {f"https://www.neuronpedia.org/gemma-2-2b/12-res/{feature}" for feature in features}
