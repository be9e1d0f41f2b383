"""The CRF against sums and maxima over every path, in float64."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck

from attncli.layers.crf import CRF

BATCH, WORDS, LABELS = 4, 5, 3
LENGTHS = torch.tensor([5, 3, 1, 0])


@pytest.fixture
def keep():
    return torch.arange(WORDS)[None] < LENGTHS[:, None]


@pytest.fixture
def emissions():
    return torch.randn(BATCH, WORDS, LABELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def make(constrained):
    torch.manual_seed(2)
    crf = CRF(LABELS).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    if constrained:
        allowed = torch.ones(LABELS, LABELS, dtype=torch.bool)
        allowed[0, 2] = allowed[1, 0] = False
        crf.constrain(allowed, torch.tensor([True, True, False]), torch.tensor([True, False, True]))
    return crf


def paths(crf, emissions, length):
    """Every allowed path of one row and its score, in plain Python."""
    found = {}
    for path in itertools.product(range(LABELS), repeat=length):
        steps = list(itertools.pairwise(path))
        fits = crf.allowed_start[path[0]] and crf.allowed_end[path[-1]]
        if not fits or not all(crf.allowed[step] for step in steps):
            continue
        score = crf.start[path[0]] + crf.end[path[-1]] + sum(emissions[i, tag] for i, tag in enumerate(path))
        found[path] = (score + sum(crf.transitions[step] for step in steps)).item()
    return found


@pytest.mark.parametrize("constrained", [False, True])
def test_likelihoods_of_all_paths_are_those_of_enumeration(constrained, emissions, keep):
    crf = make(constrained)
    for row, length in enumerate(LENGTHS.tolist()):
        if not length:
            continue
        scores = paths(crf, emissions[row], length)
        total = torch.logsumexp(torch.tensor(list(scores.values()), dtype=torch.float64), 0)
        for path, score in scores.items():
            labels = torch.zeros(BATCH, WORDS, dtype=torch.int64)
            labels[row, :length] = torch.tensor(path)
            found = crf.log_likelihood(emissions, labels, keep)[row].item()
            assert abs(found - (score - float(total))) < 1e-12


@pytest.mark.parametrize("constrained", [False, True])
def test_the_best_path_is_that_of_enumeration(constrained, emissions, keep):
    crf = make(constrained)
    best, score = crf.decode(emissions, keep)
    for row, length in enumerate(LENGTHS.tolist()):
        scores = paths(crf, emissions[row], length) if length else {(): 0.0}
        path = max(scores, key=scores.get)
        assert tuple(best[row, :length].tolist()) == path
        assert abs(score[row].item() - scores[path]) < 1e-12
    assert not best[~keep].any()


def test_unknown_labels_are_summed_over(emissions, keep):
    crf = make(True)
    scores = paths(crf, emissions[0], WORDS)
    labels = torch.tensor([[0, -100, 1, -100, -100]]).expand(BATCH, -1)
    fit = [score for path, score in scores.items() if path[0] == 0 and path[2] == 1]
    log_sum = [torch.tensor(part, dtype=torch.float64).logsumexp(0) for part in (fit, list(scores.values()))]
    torch.testing.assert_close(crf.log_likelihood(emissions, labels, keep)[0], log_sum[0] - log_sum[1])
    none = torch.full((BATCH, WORDS), -100)
    assert crf.log_likelihood(emissions, none, keep).abs().max() < 1e-10


def test_an_empty_row_counts_nothing_and_gradients_are_right(emissions, keep):
    crf = make(False)
    labels = torch.zeros(BATCH, WORDS, dtype=torch.int64)
    emissions.requires_grad_()
    found = crf.log_likelihood(emissions, labels, keep)
    assert found[3] == 0
    found.sum().backward()
    assert not emissions.grad[~keep].any()
    assert all(torch.isfinite(p.grad).all() for p in crf.parameters())
    assert gradcheck(lambda e: crf.log_likelihood(e, labels, keep), (emissions.detach().requires_grad_(),))


def test_what_is_forbidden_is_part_of_the_state():
    crf, other = make(True), CRF(LABELS).double()
    other.load_state_dict(crf.state_dict())
    assert torch.equal(other.allowed, crf.allowed)
    assert not other.allowed[0, 2]
    assert not other.allowed_start[2]


def test_half_precision_is_computed_in_float32(emissions, keep):
    crf = make(False).float()
    labels = torch.ones(BATCH, WORDS, dtype=torch.int64)
    half = emissions.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = crf.log_likelihood(half, labels, keep)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, crf.log_likelihood(half.float(), labels, keep))
