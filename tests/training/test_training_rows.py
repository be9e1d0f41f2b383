"""AdamW over the rows of a table that have had a gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from training_tasks import train

from attncli.recipe.sections import TrainSection
from attncli.training.optimizers import Optimizers, clip_gradients
from attncli.training.rows import RowAdamW, make_sparse

WORDS, WIDTH = 12, 5


class Lookup(nn.Module):
    """An embedding and what reads it."""

    def __init__(self, sparse):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.word = nn.Embedding(
            WORDS, WIDTH, padding_idx=0, sparse=sparse, _weight=torch.randn(WORDS, WIDTH, generator=generator)
        )
        self.out = nn.Linear(WIDTH, 1)
        nn.init.constant_(self.out.weight, 0.5)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens):
        return self.out(torch.tanh(self.word(tokens))).square().mean()


def optimizers(model, **options):
    options = {"learning_rate": 0.05, "weight_decay": 0.0, **options}
    groups = [
        {"params": [p], "scale": scale} for scale, p in zip((1.0, 0.5, 0.5), model.parameters(), strict=True)
    ]
    return Optimizers(model, groups, TrainSection(**options), half=False)


def step(model, built, tokens, limit=1.0):
    built.clear()
    for part in tokens if isinstance(tokens, list) else [tokens]:  # several: added up
        model(part).backward()
    norm = clip_gradients(built.parameters, limit)
    built.step()
    return float(norm)


@given(
    batches=st.lists(st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=6), min_size=1, max_size=8),
    parts=st.integers(1, 2),
    limit=st.sampled_from([0.0, 0.01, 10.0]),
)
@settings(max_examples=40, deadline=None)
def test_it_is_adamw(batches, parts, limit):
    ours, theirs = Lookup(sparse=True), Lookup(sparse=False)
    first, second = optimizers(ours), optimizers(theirs)
    assert [type(o).__name__ for o in first.all] == ["AdamW", "RowAdamW"]
    assert [type(o).__name__ for o in second.all] == ["AdamW"]
    for words in batches:
        tokens = [torch.tensor(words)] * parts
        assert step(ours, first, tokens, limit) == pytest.approx(
            step(theirs, second, tokens, limit), rel=1e-5
        )
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other)


def test_rows_without_a_gradient_are_left_alone_and_others_decay():
    model, plain = Lookup(sparse=True), Lookup(sparse=False)
    before = model.word.weight.detach().clone()
    for one in (model, plain):
        built = optimizers(one, weight_decay=0.1)
        for tokens in ([3, 5], [5], [3]):
            step(one, built, torch.tensor(tokens))
    changed = (model.word.weight != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [3, 5]
    torch.testing.assert_close(model.word.weight[[3, 5]], plain.word.weight[[3, 5]])


@pytest.mark.parametrize("kinds", [(True, True), (True, False), (False, True)])
def test_a_checkpoint_is_adamws(kinds):
    """A run may go on where gradients are dense (on a GPU, in several processes), and the other way round."""
    before, after = kinds
    batches = [torch.tensor(words) for words in ([1, 2], [2, 3, 4], [9], [1, 11], [4, 4])]
    whole = Lookup(sparse=before)
    straight = optimizers(whole)
    first = Lookup(sparse=before)
    built = optimizers(first)
    for tokens in batches[:3]:
        step(whole, straight, tokens)
        step(first, built, tokens)
    tensors = built.tensors()
    assert {name: tuple(x.shape) for name, x in tensors.items() if name.startswith("word")} == {
        "word.weight//exp_avg": (WORDS, WIDTH),
        "word.weight//exp_avg_sq": (WORDS, WIDTH),
        "word.weight//step": (),
    }
    again = Lookup(sparse=after)
    again.load_state_dict(first.state_dict())
    resumed = optimizers(again)
    resumed.load(tensors, "here")
    for tokens in batches[3:]:
        step(whole, straight, tokens)
        step(again, resumed, tokens)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other) if before == after else torch.allclose(one, other)


@pytest.mark.parametrize("marked", [True, False])
def test_embeddings_that_are_marked_get_sparse_gradients(marked):
    model = Lookup(sparse=False)
    if marked:
        model.word.looked_up = True
    make_sparse(model)
    model(torch.tensor([1])).backward()
    assert model.word.weight.grad.is_sparse == marked
    assert any(isinstance(o, RowAdamW) for o in optimizers(model).all) == marked


def test_the_loop_trains_marked_embeddings_by_their_rows_and_resumes_them(tmp_path):
    def run(name, looked_up, **more):
        settings = {"weight_decay": 0.0, "schedule": {"kind": "constant", "warmup": 0}, **more}
        _, task, _ = train(tmp_path / name, task="untied", task_options={"looked_up": looked_up}, **settings)
        return task.model

    rows, plain = run("rows", True), run("plain", False)
    assert rows.embed.weight.grad.is_sparse
    assert not plain.embed.weight.grad.is_sparse
    run("halves", True, steps=15)
    resumed = run("halves", True, resume=True)
    for one, other, again in zip(rows.parameters(), plain.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other)
        assert torch.equal(one, again)
