"""Highlighting, attribution and the pictures of classifiers."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from attncli.reports.attribution import attribute
from attncli.reports.calibration import draw_calibration
from attncli.reports.confusion import draw_confusion
from attncli.reports.highlight import Line, Piece, Shading, plain, terminal


def test_gradients_of_a_linear_model_are_its_weights():
    torch.manual_seed(0)
    embedding, weight = nn.Embedding(7, 4).double(), torch.randn(3, 4, dtype=torch.float64)
    tokens = torch.tensor([[1, 5, 2]])
    found = attribute(lambda: (embedding(tokens)[0] * weight).sum(), embedding)
    wanted = (embedding.weight[tokens[0]] * weight).sum(-1).detach()
    assert torch.allclose(found.gradient, wanted)
    assert torch.allclose(found.integrated, wanted)
    assert found.error < 1e-9


def test_integrated_gradients_add_up_to_the_change():
    torch.manual_seed(1)
    embedding, net = nn.Embedding(9, 8), nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    tokens = torch.tensor([[3, 4, 5, 6]])
    found = attribute(lambda: net(embedding(tokens).mean(1))[0, 0], embedding, steps=64)
    with torch.no_grad():
        change = net(embedding(tokens).mean(1))[0, 0] - net(torch.zeros(1, 8))[0, 0]
    assert found.integrated.sum().item() == pytest.approx(change.item(), rel=1e-3)
    assert found.error < 1e-3
    assert net[0].weight.grad is None


def shading():
    pieces = [Piece("<b>so", 0.5), Piece("שלום", -1.0), Piece("文", 0.25, blank=False)]
    return Shading(
        "method & co", [Line(pieces, 0.75), Line([Piece("end", 0.0)], 0.25)], "a note", signed=True
    )


def test_the_terminal_shades_the_same_words():
    text = terminal(shading())
    assert "<b>so שלום文" in text.plain
    assert text.plain.startswith("████")
    assert len({str(span.style) for span in text.spans}) == 3
    assert plain(shading(), 2) == [("שלום", -1.0), ("<b>so", 0.5)]


@pytest.mark.parametrize(
    "names",
    [
        ["no", "yes"],
        [f"a rather long name of label {n}" for n in range(12)],
        ["好", "坏", "$x$"],
        [str(n) for n in range(100)],
    ],
)
def test_pictures_of_any_labels_are_drawn_in_silence(tmp_path, names, recwarn):
    rng = np.random.default_rng(0)
    gold, found = rng.integers(len(names), size=60), rng.integers(len(names), size=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(gold, found, names, tmp_path / "a.png")
    draw_calibration(rng.dirichlet(np.ones(len(names)), 60), gold, tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size > 2000
    assert (tmp_path / "b.png").stat().st_size > 2000
