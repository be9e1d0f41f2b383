"""The linear baseline against its formula, and against scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from attncli.data.bag import BagFeatures
from attncli.models.bag_of_words import BagConfig, BagOfWords
from attncli.recipe.classify import BagModel


def dense(features, bags):
    out = torch.zeros(len(bags), features.size, dtype=torch.float64)
    for row in range(len(bags)):
        span = slice(bags.starts[row], bags.starts[row + 1])
        out[row, torch.from_numpy(bags.features[span])] = torch.from_numpy(bags.weights[span]).double()
    return out


@pytest.mark.parametrize("kind", ["binary", "nb"])
def test_logits_are_sums_of_scores_and_padding_adds_nothing(kind):
    torch.manual_seed(1)
    ratios = torch.randn(7, 3, dtype=torch.float64) if kind == "nb" else None
    model = BagOfWords(BagConfig(features=7, labels=3, kind=kind), ratios).double()
    torch.nn.init.normal_(model.weight)
    torch.nn.init.normal_(model.bias)
    ids = torch.tensor([[1, 4, 6], [2, 0, 0]])
    weights = torch.tensor([[0.5, 1.0, 2.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    table = model.weight if ratios is None else model.weight * ratios
    want = [0.5 * table[1] + table[4] + 2 * table[6] + model.bias, 3 * table[2] + model.bias]
    torch.testing.assert_close(model(ids, weights), torch.stack(want), rtol=1e-12, atol=1e-12)
    (grad,) = torch.autograd.grad(model(ids, weights).sum(), model.weight)
    assert not grad[0].any()  # the padding's feature
    assert grad[1].any()


def test_stored_ratios_come_back():
    model = BagOfWords(BagConfig(features=4, labels=2, kind="nb"), torch.randn(4, 2))
    again = BagOfWords(model.config)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.ratios, model.ratios, rtol=0, atol=0)


def test_as_accurate_as_logistic_regression_on_the_same_features():
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"word{at}" for at in range(150)])
    leaning = rng.normal(0, 0.6, 150)
    texts, labels = [], []
    for _ in range(800):
        chosen = rng.integers(0, 150, 25)
        texts.append(" ".join(vocabulary[chosen]))
        labels.append(int(leaning[chosen].sum() + rng.normal() > 0))
    labels = np.array(labels)
    features = BagFeatures.fit(BagModel(ngrams=1), texts[:400])
    train, test = (dense(features, features.encode(part)) for part in (texts[:400], texts[400:]))
    theirs = LogisticRegression(C=10, max_iter=500).fit(train.numpy(), labels[:400])
    bags = features.encode(texts[:400])
    model = BagOfWords(BagConfig(features=features.size, labels=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    ids = torch.arange(features.size).expand(400, -1)
    assert len(bags) == 400
    for _ in range(60):
        loss = F.cross_entropy(model(ids, train.float()), torch.from_numpy(labels[:400]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    got = model(torch.arange(features.size).expand(400, -1), test.float()).argmax(1).numpy()
    ours, others = (got == labels[400:]).mean(), theirs.score(test.numpy(), labels[400:])
    assert others > 0.75
    assert ours > others - 0.02
