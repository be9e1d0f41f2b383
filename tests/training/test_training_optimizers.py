from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from training_tasks import Regression, Tokens, section

from attncli.errors import CheckpointError
from attncli.training.muon import Muon, orthogonalise
from attncli.training.optimizers import Optimizers, clip_gradients
from attncli.training.task import hidden_matrices


def newton_schulz(matrix):
    """The published iteration, in float64 and plain NumPy."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


@pytest.mark.parametrize("shape", [(6, 6), (5, 11), (12, 4)])
def test_muon_follows_its_formula(shape):
    chance = np.random.default_rng(0)
    weight, momentum = chance.normal(size=shape), np.zeros(shape)
    parameter = nn.Parameter(torch.tensor(weight, dtype=torch.float32))
    optimizer = Muon([parameter], lr=0.05, momentum=0.9, weight_decay=0.1)
    for _ in range(4):
        gradient = chance.normal(size=shape)
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        nesterov = 0.1 * gradient + 0.9 * momentum
        tall = shape[0] > shape[1]
        update = newton_schulz(nesterov.T).T if tall else newton_schulz(nesterov)
        weight = weight * (1 - 0.05 * 0.1) - 0.05 * max(1, shape[0] / shape[1]) ** 0.5 * update
        assert np.abs(parameter.detach().numpy() - weight).max() < 1e-5


def test_orthogonalise_moves_singular_values_near_one():
    matrices = torch.randn(3, 20, 32, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert 0.5 < values.min() < values.max() < 1.3


def test_muon_batches_equal_shapes_without_mixing_them():
    gradients = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0))
    together = [nn.Parameter(torch.zeros(4, 7)) for _ in range(3)]
    alone = [nn.Parameter(torch.zeros(4, 7)) for _ in range(3)]
    for group in (together, alone):
        for parameter, gradient in zip(group, gradients, strict=True):
            parameter.grad = gradient.clone()
    Muon(together).step()
    for parameter in alone:
        Muon([parameter]).step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match="matrices"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_hidden_matrices_leave_out_embeddings_what_is_tied_to_them_and_marked_heads():
    model = Tokens().model
    assert [id(p) for p in hidden_matrices(model)] == [id(model.hidden.weight)]
    marked = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3)))
    marked[1].muon = False
    assert [id(p) for p in hidden_matrices(marked)] == [id(marked[0].weight)]


def test_convolutions_are_hidden_matrices_but_not_of_single_channels():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1), nn.Conv1d(2, 2, 3)
    )
    model[0].muon = False
    assert [id(p) for p in hidden_matrices(model)] == [id(model[2].weight), id(model[3].weight)]


def test_muon_takes_a_convolution_as_a_matrix():
    gradient = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel, matrix = nn.Parameter(torch.zeros(4, 2, 3, 3)), nn.Parameter(torch.zeros(4, 18))
    kernel.grad, matrix.grad = gradient, gradient.flatten(1)
    Muon([kernel]).step()
    Muon([matrix]).step()
    torch.testing.assert_close(kernel.flatten(1), matrix.detach())


def kinds(task, **settings):
    built = Optimizers(task.model, task.parameter_groups(), section(**settings), half=False)
    names = {id(p): n for n, p in task.model.named_parameters()}
    return {
        names[id(p)]: (type(optimizer).__name__, group["peak"], group["weight_decay"])
        for optimizer in built.all
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_each_parameter_gets_its_optimizer_rate_and_decay():
    assert kinds(
        Tokens(), optimizer="muon", learning_rate=0.003, muon_learning_rate=0.04, weight_decay=0.2
    ) == {
        "embed.weight": ("AdamW", 0.003, 0.2),
        "hidden.weight": ("Muon", 0.04, 0.2),
        "hidden.bias": ("AdamW", 0.003, 0.0),
        "out.bias": ("AdamW", 0.003, 0.0),
        "pair.weight": ("AdamW", 0.003, 0.2),
        "pair.bias": ("AdamW", 0.003, 0.0),
    }
    assert {kind for kind, _, _ in kinds(Tokens()).values()} == {"AdamW"}


def test_a_group_may_scale_its_rate():
    model = nn.Linear(2, 2)
    groups = [{"params": [model.weight], "scale": 0.25}, {"params": [model.bias], "weight_decay": 0.0}]
    built = Optimizers(model, groups, section(learning_rate=0.4), half=False)
    built.set_share(0.5)
    assert [g["lr"] for g in built.all[0].param_groups] == [0.05, 0.2]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_state_survives_the_round_trip_bit_by_bit(optimizer):
    def make():
        task = Regression(dropout=0.0)
        return task, Optimizers(task.model, task.parameter_groups(), section(optimizer=optimizer), half=False)

    def step(task, built, seed):
        batch = task.batches()
        batch.position = seed
        built.clear()
        task.losses(batch.next([0], 1)[0])["square"].backward()
        built.step()

    task, built = make()
    for k in range(3):
        step(task, built, k)
    other, restored = make()
    other.model.load_state_dict(task.model.state_dict())
    restored.load(built.tensors(), "here")
    for k in range(3, 6):
        step(task, built, k)
        step(other, restored, k)
    for one, same in zip(task.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, same)


def test_state_of_another_optimizer_is_refused():
    task = Regression()
    for parameter in task.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    adamw = Optimizers(task.model, task.parameter_groups(), section(), half=False)
    adamw.step()
    muon = Optimizers(task.model, task.parameter_groups(), section(optimizer="muon"), half=False)
    with pytest.raises(CheckpointError, match="another optimiser"):
        muon.load(adamw.tensors(), "here")


@pytest.mark.parametrize(("limit", "expected"), [(1.0, 1.0), (0.0, 13.0), (20.0, 13.0)])
def test_clipping_is_by_the_global_norm(limit, expected):
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    assert float(clip_gradients(parameters, limit)) == pytest.approx(13.0)
    after = torch.cat([parameters[0].grad, parameters[1].grad]).norm()
    assert float(after) == pytest.approx(expected, rel=1e-6)


def test_state_that_was_stored_continues_weights_of_any_memory_order():
    """Files hold tensors in plain order; fused kernels read state and weight in the order of memory."""

    def weight():
        start = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        return nn.ParameterDict({"w": nn.Parameter(start.contiguous(memory_format=torch.channels_last))})

    def optimizer(model):
        return Optimizers(
            model, [{"params": list(model.parameters())}], section(learning_rate=0.1), half=False
        )

    def step(model, optimizers, number):
        gradient = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(number))
        model["w"].grad = gradient.contiguous(memory_format=torch.channels_last)
        optimizers.step()

    whole, again = weight(), weight()
    straight, first = optimizer(whole), optimizer(again)
    for number in range(2):
        step(whole, straight, number)
        step(again, first, number)
    resumed = optimizer(again)
    resumed.load({name: value.contiguous() for name, value in first.tensors().items()}, "here")
    for number in range(2, 5):
        step(whole, straight, number)
        step(again, resumed, number)
    assert torch.equal(whole["w"], again["w"])
