"""Pictures of attention maps."""

import numpy as np

from attncli.reports.attention_map import draw_maps


def test_tokens_that_look_like_formulas_are_drawn_as_text(tmp_path):
    tokens = ["$\\frac{$", "$", "a_b", "\\", "日本", "<b>"]
    weights = np.full((2, len(tokens), len(tokens)), 1 / len(tokens), dtype=np.float32)
    draw_maps([("layer", weights)], tokens, tmp_path / "map.png", title="costs $\\frac{$ 5")
    assert (tmp_path / "map.png").stat().st_size > 1000
