"""What learns, at which rate, and what is drawn anew."""

import pytest
import torch
from test_models_text import toy

from attncli.errors import RecipeError
from attncli.layers.lora import LowRankLinear
from attncli.models import load_text, merge_low_rank, merged_state, save_text
from attncli.models.adaptation import adapt, layer_groups, parameter_groups
from attncli.recipe.text import SequenceModel


def section(**settings):
    return SequenceModel(base="x", **settings)


def names(model, parameters):
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return {known[id(parameter)] for parameter in parameters}


def train(model, steps=3):
    tokens = torch.randint(1, 40, (4, 7), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(tokens), torch.tensor([0, 1, 1, 0])).backward()
        optimizer.step()
    return tokens


@pytest.mark.parametrize("more", [{}, {"norm": "pre"}, {"share_layers": True, "embedding_width": 8}])
def test_every_weight_is_in_one_group(more):
    model = toy(**more)
    hidden = [model.encoder.stack.blocks[0].attention.qkv.weight]
    groups = parameter_groups(model, head_rate=10.0, hidden=hidden)
    everything = [p for group in groups for p in group["params"]]
    assert len(everything) == len(set(map(id, everything))) == len(list(model.parameters()))
    assert sum(group.get("muon", False) for group in groups) == 1
    for group in groups:
        flat = {p.ndim < 2 for p in group["params"]}
        assert flat == {group.get("weight_decay") == 0.0}
        inside = {name.startswith("encoder.") for name in names(model, group["params"])}
        assert inside == {group["scale"] == 1.0}


def test_rates_fall_with_depth():
    model = toy(norm="pre")
    groups = parameter_groups(model, layer_decay=0.5, head_rate=3.0)
    scales = {name: g["scale"] for g in groups for name in names(model, g["params"])}
    assert scales["head.out.weight"] == 3.0
    assert scales["encoder.stack.norm.weight"] == 1.0
    assert scales["encoder.stack.blocks.2.attention.qkv.weight"] == 1.0
    assert scales["encoder.stack.blocks.1.feed_forward_norm.bias"] == 0.5
    assert scales["encoder.stack.blocks.0.attention.out.bias"] == 0.25
    assert scales["encoder.embeddings.word.weight"] == 0.125
    with pytest.raises(RecipeError, match="share one set of weights"):
        parameter_groups(toy(share_layers=True), layer_decay=0.9)


def test_frozen_layers_neither_learn_nor_get_gradients():
    model = toy().train()
    adapt(model, section(freeze_layers=2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".blocks.")[-1][0] for name in changed if ".blocks." in name} == {"2"}
    assert not any("embeddings" in name for name in changed)
    assert "head.out.weight" in changed
    assert model.encoder.stack.blocks[1].attention.qkv.weight.grad is None
    assert [name for name, found in layer_groups(model) if found] == ["layer 2", "head"]


def test_frozen_embeddings_alone():
    model = toy().train()
    adapt(model, section(freeze_embeddings=True))
    assert {name for name, found in layer_groups(model) if not found} == {"embeddings"}


@pytest.mark.parametrize("share", [False, True])
def test_the_highest_layers_are_drawn_anew(share):
    model = toy(share_layers=share)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapt(model, section(reset_layers=3 if share else 2))
    state = model.state_dict()
    changed = {name for name in state if not torch.equal(state[name], before[name])}
    blocks = ("0",) if share else ("1", "2")
    expected = {
        name for name in state if name.startswith("head.") or name.split(".")[3:4] in map(list, blocks)
    }
    assert changed == expected
    top = model.encoder.stack.blocks[-1]
    assert top.attention.qkv.weight.std() < 0.03
    assert torch.equal(top.feed_forward_norm.weight, torch.ones(16))


def test_low_rank_updates_learn_alone_and_merge(tmp_path):
    model = toy().train()
    adapt(model, section(lora=2, lora_alpha=4.0))
    layers = [m for m in model.modules() if isinstance(m, LowRankLinear)]
    assert len(layers) == 4 * 3
    assert {p.ndim for p in layers[0].parameters() if p.requires_grad} == {2}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokens = train(model)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.rpartition(".")[2] for name in changed if name.startswith("encoder.")} == {"down", "up"}
    model.eval()
    expected = model(tokens)
    save_text(model, tmp_path, special={"pad_token_id": 0})
    state = merged_state(model)
    merge_low_rank(model)
    assert state.keys() == toy().state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(model(tokens), expected, atol=1e-5, rtol=1e-5)
    exported, _ = load_text(tmp_path)
    assert torch.equal(
        exported.eval()(tokens, torch.zeros_like(tokens)), model(tokens, torch.zeros_like(tokens))
    )


@pytest.mark.parametrize("setting", ["freeze_layers", "reset_layers"])
def test_layers_that_there_are_not(setting):
    with pytest.raises(RecipeError, match=f"model.{setting}=4: the encoder has 3 layers"):
        adapt(toy(), section(**{setting: 4}))
    with pytest.raises(RecipeError, match="share one set of weights"):
        adapt(toy(share_layers=True), section(**{setting: 1}))
