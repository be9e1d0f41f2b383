"""Optimiser state of channels-last weights: what is loaded lies in memory as what was learnt."""

import torch
from torch import nn

from attncli.recipe.sections import TrainSection
from attncli.training.optimizers import Optimizers


def step(model, optimizers, seed):
    torch.manual_seed(seed)
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizers.step()
    optimizers.clear()


def build():
    torch.manual_seed(0)
    model = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
    groups = [{"params": list(model.parameters())}]
    return model, Optimizers(model, groups, TrainSection(), half=False)


def test_a_loaded_state_goes_on_bit_by_bit():
    whole, learnt = build()
    step(whole, learnt, 1)
    tensors = {name: value.contiguous() for name, value in learnt.tensors().items()}  # as files keep them
    parts, loaded = build()
    with torch.no_grad():
        for mine, other in zip(parts.parameters(), whole.parameters(), strict=True):
            mine.copy_(other)
    loaded.load(tensors, "here")
    for model, optimizers in ((whole, learnt), (parts, loaded)):
        for seed in (2, 3):
            step(model, optimizers, seed)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
    state = loaded.all[0].state[parts.weight]["exp_avg"]
    assert state.is_contiguous(memory_format=torch.channels_last)
