"""Metrics of classification, tagging and answering against scikit-learn, seqeval and SQuAD's rules."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from attncli.metrics import answers, classification, schemes, tagging


@pytest.mark.parametrize("labels", [2, 5])
def test_single_labels_as_scikit_learn_counts_them(labels):
    rng = np.random.default_rng(0)
    for _ in range(20):
        count = int(rng.integers(1, 60))
        shares = rng.dirichlet(np.ones(labels), count)
        gold = rng.integers(labels, size=count)
        found = classification.score("single", shares, gold)
        best = shares.argmax(1)
        assert found["accuracy"] == pytest.approx(reference.accuracy_score(gold, best))
        assert found["f1_macro"] == pytest.approx(reference.f1_score(gold, best, average="macro"))
        assert found["matthews"] == pytest.approx(reference.matthews_corrcoef(gold, best))


def test_several_labels_as_scikit_learn_counts_them():
    rng = np.random.default_rng(1)
    shares, gold = rng.random((50, 4)), (rng.random((50, 4)) < 0.4).astype(float)
    found = classification.score("multi", shares, gold)
    on = shares >= 0.5
    assert found["f1_micro"] == pytest.approx(reference.f1_score(gold, on, average="micro"))
    assert found["f1_macro"] == pytest.approx(reference.f1_score(gold, on, average="macro"))
    assert found["subset_accuracy"] == pytest.approx(reference.accuracy_score(gold, on))
    wanted = reference.average_precision_score(gold, shares, average="macro")
    assert found["average_precision"] == pytest.approx(wanted)


def test_numbers_with_ties():
    from scipy import stats

    rng = np.random.default_rng(2)
    gold, found = rng.integers(5, size=40).astype(float), rng.integers(5, size=40).astype(float)
    scores = classification.score("regression", found[:, None], gold)
    assert scores["spearman"] == pytest.approx(stats.spearmanr(found, gold)[0])
    assert scores["pearson"] == pytest.approx(stats.pearsonr(found, gold)[0])
    assert scores["mse"] == pytest.approx(((found - gold) ** 2).mean())
    assert classification.score("regression", np.ones((3, 1)), np.arange(3.0))["spearman"] == 0.0


def test_calibration_of_a_model_that_knows_and_of_one_that_boasts():
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0.5, 1, 200_000)
    shares = np.stack((confidence, 1 - confidence), 1)
    gold = (rng.random(len(confidence)) > confidence).astype(int)
    assert classification.calibration(shares, gold).error < 0.01
    boast = np.tile([1.0, 0.0], (1000, 1))
    assert classification.calibration(boast, np.arange(1000) % 2).error == pytest.approx(0.5)


def test_a_report_has_every_label():
    shares = np.eye(3)[[0, 1, 1, 2]]
    rows = classification.label_report("single", shares, np.array([0, 1, 2, 2]), ["a", "b", "c"])
    assert rows[1] == ("b", 0.5, 1.0, pytest.approx(2 / 3), 1)
    assert math.isnan(classification.score("single", np.zeros((0, 2)), np.zeros(0, int))["accuracy"])


TAGS = {
    scheme: st.lists(st.sampled_from(schemes.label_set("XY", scheme)), max_size=9)
    for scheme in schemes.SCHEMES
}


@pytest.mark.parametrize("scheme", schemes.SCHEMES)
def test_entities_as_seqeval_counts_them(scheme):
    seqeval = pytest.importorskip("seqeval.metrics")

    @given(
        st.lists(
            st.tuples(TAGS[scheme], TAGS[scheme]).map(lambda p: [t[: min(map(len, p))] for t in p]),
            min_size=1,
        )
    )
    def check(sentences):
        gold, found = [pair[0] for pair in sentences], [pair[1] for pair in sentences]
        scores = tagging.score(found, gold, scheme)
        assert scores["f1"] == pytest.approx(seqeval.f1_score(gold, found, zero_division=0))
        assert scores["recall"] == pytest.approx(seqeval.recall_score(gold, found, zero_division=0))

    check()


@pytest.mark.parametrize("old", schemes.SCHEMES)
@pytest.mark.parametrize("new", schemes.SCHEMES)
def test_schemes_spell_the_same_entities(old, new):
    @given(TAGS[old])
    def check(tags):
        other = schemes.convert(tags, old, new)
        assert len(other) == len(tags)
        if (old, new) == (old, old) or new != "iob1" or old != "iob1":
            assert schemes.spans(other, new) == schemes.spans(tags, old)

    check()


@pytest.mark.parametrize("scheme", schemes.SCHEMES)
@pytest.mark.parametrize("types", [("X", "Y"), ("",)])
def test_what_a_scheme_writes_it_allows_and_detects(scheme, types):
    kinds = st.lists(
        st.tuples(st.sampled_from(types), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=5
    )

    @given(kinds)
    def check(parts):
        at, spans = 0, []
        for kind, length, gap in parts:
            at += gap
            spans.append((kind, at, at + length - 1))
            at += length
        tags = schemes.tags_of(spans, at, scheme)
        assert schemes.spans(tags, scheme) == spans
        edges = [None, *tags, None]
        assert all(schemes.allowed(a, b, scheme) for a, b in itertools.pairwise(edges))

    check()
    assert schemes.detect([["B-X", "I-X", "O"], ["B-Y"]]) == "iob2"
    assert schemes.detect([["I-X", "I-X", "O"]]) == "iob1"
    assert schemes.detect([["S-X", "B-X", "E-X"]]) == "bioes"
    assert schemes.detect([["B", "I", "O"], ["B"]]) == "iob2"
    assert schemes.label_set({""}, "iob2") == ["O", "B", "I"]
    assert schemes.detect([["NOUN", "VERB"]]) == "none"
    assert schemes.detect([["O", "O"]]) == "none"
    entities = [["B-X", "I-X", "O"]] * 20
    assert schemes.detect([*entities, ["Q-X"], ["PER"]]) == "iob2"  # slips, which reading the data names
    assert schemes.detect([*entities, ["NOUN", "VERB", "NOUN"]]) == "none"


@pytest.mark.parametrize(
    ("predicted", "gold", "exact", "f1"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1, 1),
        ("in 1889", ["1889", "the year 1889"], 0, 2 / 3),
        ("", [], 1, 1),
        ("something", [], 0, 0),
        ("", ["Paris"], 0, 0),
        ("a", ["the"], 1, 1),
    ],
)
def test_answers_as_squad_counts_them(predicted, gold, exact, f1):
    assert answers.exact_match(predicted, gold) == exact
    assert answers.f1(predicted, gold) == pytest.approx(f1)


def test_answers_over_a_set_and_the_threshold_of_none():
    gold = {"a": ["Paris"], "b": [], "c": ["red car"]}
    scores = answers.score({"a": "Paris", "b": "", "c": "car"}, gold)
    assert scores["exact_match"] == pytest.approx(2 / 3)
    assert scores["f1"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert scores["has_answer_exact_match"] == 0.5
    assert scores["no_answer_accuracy"] == 1.0
    apart = {"a": -3.0, "b": 2.0, "c": -1.0}
    best = answers.best_threshold({"a": "Paris", "b": "x", "c": "car"}, apart, gold)
    assert -1.0 <= best < 2.0
