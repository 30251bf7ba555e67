"""The code of a how-to does what its page says."""

from pathlib import Path

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto"


def code_of(page: str) -> str:
    return page.split("```python\n")[1].split("```")[0]


def test_a_predicted_edit_is_near_the_real_one(debug_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/debug").symlink_to(debug_run)
    names: dict = {}
    exec(code_of((HOWTO / "predict_an_edit.md").read_text(encoding="utf-8")), names)
    table = names["table"]
    assert len(table) == 3 and table["edit"].iloc[-1] == "all together"
    ablated = table.iloc[0]
    assert abs(ablated["share"] + 1) < 1e-3
    assert ablated["predicted"] < 0 and ablated["real"] < 0
    assert 0.5 < ablated["predicted"] / ablated["real"] < 2
