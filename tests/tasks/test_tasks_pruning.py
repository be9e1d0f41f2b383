"""What heads are worth, against sums written out and models whose heads are known."""

import math

import pytest
import torch
from torch import nn

from attncli.attention import Attention, Head, record
from attncli.tasks.pruning import ALLOWED, Measured, Prediction, heads_of, prune, runs_of


def test_predictions_and_how_far_they_move():
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    one, other = Prediction.of(p.log() + 3, torch.tensor([0])), Prediction.of(q.log())
    want = 0.5 * math.log(2) - 0.25 * math.log(2)
    assert one.moved(other) == pytest.approx(want, abs=1e-6)
    assert one.moved(one) == 0
    assert one.loss == pytest.approx(math.log(2))
    assert other.loss is None
    numbers = [Prediction(None, numbers=torch.tensor([x])) for x in (1.0, 1.5)]
    assert numbers[0].moved(numbers[1]) == 0.5


class Model(nn.Module):
    """Two layers of four heads, of which only some reach the output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Attention(8, heads=4) for _ in range(2))
        self.out = nn.Linear(8, 5)
        with torch.no_grad():
            for layer in self.layers:
                layer.qkv.weight.mul_(3)
                layer.out.weight.mul_(4)
            self.layers[0].out.weight[:, 2:4] = 0  # head 1 of the first layer says nothing
            self.layers[1].out.weight[:, 2:6] *= 1e-3  # and two of the second hardly anything

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x)
        return self.out(x)


def test_heads_that_say_nothing_can_be_pruned():
    model, x = Model().eval(), torch.randn(1, 6, 8)
    labels = torch.arange(6) % 5
    with torch.no_grad(), record(model) as recorded:
        model(x)
    heads = heads_of(recorded.weights)
    assert heads[5] == Head("layers.1", 1)
    ran = []
    found = prune(model, lambda: Prediction.of(model(x)[0], labels), heads, ran.append)
    assert len(ran) == runs_of(8) == 1 + 8 + 8
    idle = {Head("layers.0", 1), Head("layers.1", 1), Head("layers.1", 2)}
    assert idle <= set(found.prunable)
    assert found.worth[1].change == pytest.approx(0, abs=1e-6)
    assert found.worth[1].loss == pytest.approx(0, abs=1e-5)
    assert dict(found.together)[len(found.prunable)] <= ALLOWED
    others = [one for one in found.worth if one.head not in idle]
    assert min(one.change for one in others) > max(one.change for one in found.worth if one.head in idle)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(x)[0], labels).item()
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_heads_are_worth_what_the_loss_rises_by():
    model, x, labels = Model().eval(), torch.randn(1, 6, 8), torch.arange(6) % 5

    def loss():
        return Measured(float(nn.functional.cross_entropy(model(x)[0], labels)))

    found = prune(model, loss, [Head("layers.0", 0), Head("layers.0", 1)])
    assert found.worth[1].change == pytest.approx(0, abs=1e-6)
    assert found.worth[1].loss is None
    with torch.no_grad():
        assert found.loss == pytest.approx(loss().loss)


def test_many_heads_go_together_in_steps():
    assert runs_of(144) == 1 + 144 + 16
    weights = [("a", torch.zeros(1, 2, 3, 3)), ("b", torch.zeros(1, 1, 3, 3)), ("a", torch.zeros(1, 2, 3, 3))]
    assert heads_of(weights) == [
        Head("a", 0, 0),
        Head("a", 1, 0),
        Head("b", 0),
        Head("a", 0, 1),
        Head("a", 1, 1),
    ]
