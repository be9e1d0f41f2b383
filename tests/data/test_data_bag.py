"""Bags of words against a plain count, and against scikit-learn's vectorisers."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from attncli.data import bag as room
from attncli.data.bag import BagFeatures, bag_batches, bag_evaluation_batches
from attncli.errors import CheckpointError, DataError, RecipeError
from attncli.recipe.classify import BagModel

WORDS = ["good", "bad", "film", "the", "Not", "don't", ",", "plot", "a", "映画"]


def corpus(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(0, 12))) for _ in range(count)]


def words_of(text):
    return room._WORD.findall(text.lower())


def dense(features, bags):
    out = np.zeros((len(bags), features.size))
    for row in range(len(bags)):
        span = slice(bags.starts[row], bags.starts[row + 1])
        assert len(set(bags.features[span])) == span.stop - span.start
        out[row, bags.features[span]] = bags.weights[span]
    return out


@pytest.mark.parametrize("ngrams", [1, 2, 3])
@pytest.mark.parametrize("kind", ["tfidf", "binary", "counts"])
def test_the_same_features_and_weights_as_scikit_learn(kind, ngrams):
    train, fresh = corpus(60), [*corpus(20, seed=1), "", "unknown words only"]
    features = BagFeatures.fit(BagModel(features=kind, ngrams=ngrams, min_count=3), train)
    options = {"analyzer": "word", "tokenizer": words_of, "token_pattern": None, "lowercase": False}
    options |= {"ngram_range": (1, ngrams), "min_df": 3}
    if kind == "tfidf":
        theirs = TfidfVectorizer(sublinear_tf=True, **options)
    else:
        theirs = CountVectorizer(binary=kind == "binary", **options)
    theirs.fit(train)
    names = [features.name(at) for at in range(features.size)]
    assert sorted(names) == sorted(theirs.get_feature_names_out())
    order = [theirs.vocabulary_[name] for name in names]
    for texts in (train, fresh):
        want = theirs.transform(texts).toarray()[:, order]
        np.testing.assert_allclose(dense(features, features.encode(texts)), want, rtol=1e-6, atol=1e-7)


def test_log_count_ratios_follow_the_paper():
    texts, targets = corpus(40), np.arange(40) % 3
    features = BagFeatures.fit(BagModel(features="nb", ngrams=2, min_count=2), texts, targets, labels=3)
    grams = []
    for text in texts:
        words = words_of(text)
        grams.append(set(words) | {f"{a} {b}" for a, b in itertools.pairwise(words)})
    names = [features.name(at) for at in range(features.size)]
    for label in range(3):
        inside = Counter(g for at, found in enumerate(grams) if targets[at] == label for g in found)
        outside = Counter(g for at, found in enumerate(grams) if targets[at] != label for g in found)
        p, q = (sum(1 + side[n] for n in names) for side in (inside, outside))
        want = [math.log((1 + inside[n]) / p * q / (1 + outside[n])) for n in names]
        np.testing.assert_allclose(features.ratios[:, label], want, rtol=1e-5, atol=1e-6)
    one_hot = (targets[:, None] == np.arange(3)).astype(np.float32)
    again = BagFeatures.fit(BagModel(features="nb", ngrams=2, min_count=2), texts, one_hot)
    np.testing.assert_array_equal(again.ratios, features.ratios)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a well-made film...", ["it's", "a", "well", "-", "made", "film", ".", ".", "."]),
        ("これは映画", ["こ", "れ", "は", "映", "画"]),
        ("नमस्ते दुनिया!", ["नमस्ते", "दुनिया", "!"]),
        ("L’été à Zürich", ["l’été", "à", "zürich"]),
        ("it did n't work", ["it", "did", "n't", "work"]),
        (" \n", []),
    ],
)
def test_words_of_many_scripts(text, words):
    assert words_of(text) == words


def test_runs_stay_inside_a_text_and_pairs_have_words_of_their_own():
    features = BagFeatures.fit(BagModel(ngrams=2, min_count=1), ["a b", "c d"], pairs=["a", "b"])
    names = {features.name(at) for at in range(features.size)}
    assert names == {"a", "b", "c", "d", "a b", "c d", "2:a", "2:b", "b 2:a", "d 2:b"}


def test_places_of_features_in_a_text():
    features = BagFeatures.fit(BagModel(ngrams=2, min_count=1), ["not good , good film"])
    text = "Truly NOT  good!"
    found = {(features.name(at), text[first:end]) for at, first, end in features.places(text)}
    assert found == {("not", "NOT"), ("good", "good"), ("not good", "NOT  good")}


@pytest.mark.parametrize("kind", ["tfidf", "nb"])
def test_stored_features_are_the_same(tmp_path, kind):
    targets = np.arange(30) % 2
    features = BagFeatures.fit(BagModel(features=kind, ngrams=3), corpus(30), targets, labels=2)
    features.save(tmp_path)
    again = BagFeatures.load(tmp_path)
    want, got = features.encode(corpus(9, seed=2)), again.encode(corpus(9, seed=2))
    for name in ("features", "weights", "starts"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
    assert (again.ratios is None) == (kind == "tfidf")
    (tmp_path / "bag.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"bag\.json"):
        BagFeatures.load(tmp_path)
    (tmp_path / "bag.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"bag\.json"):
        BagFeatures.load(tmp_path)


def test_what_cannot_be_fitted_is_explained():
    with pytest.raises(DataError, match="min_count=9"):
        BagFeatures.fit(BagModel(min_count=9), ["a b", "a"])
    with pytest.raises(DataError, match="min_count"):
        BagFeatures.fit(BagModel(min_count=1), [" "])
    with pytest.raises(RecipeError, match="tfidf"):
        BagFeatures.fit(BagModel(features="nb"), ["a"], np.array([0.5], np.float32), labels=1)


def test_batches_hold_every_text_once_an_epoch():
    texts = corpus(50)
    features = BagFeatures.fit(BagModel(), texts)
    bags, targets = features.encode(texts), np.arange(50)
    stream = bag_batches(bags, targets, batch=8, seed=3)
    seen = [stream.next([0], 1)[0] for _ in range(7)]
    stream.close()
    for batches in (seen, list(bag_evaluation_batches(bags, None, batch=8))):
        index = np.concatenate([batch["index"].numpy() for batch in batches])
        assert sorted(index) == list(range(50))
        rows = np.zeros((50, features.size), np.float32)
        for batch in batches:
            for at, ids, weights in zip(batch["index"], batch["features"], batch["weights"], strict=True):
                np.add.at(rows[int(at)], ids.numpy(), weights.numpy())
        np.testing.assert_array_equal(rows, dense(features, bags).astype(np.float32))
    for batch in seen:
        np.testing.assert_array_equal(batch["labels"], batch["index"])
