"""Scores against sacreBLEU's own front doors and against the published formula."""

import math
import random
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import sacrebleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from attncli.errors import RecipeError
from attncli.metrics import translation
from attncli.metrics.translation import (
    METRICS,
    bootstrap_interval,
    check_language,
    paired,
    score,
    sentence_bleu,
)

TEXT = "ein Mann geht über die Straße , und eine Frau sitzt auf der Bank mit Hund rotem Hut ."
WORDS = TEXT.split()


def sentences(count, seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 14))).capitalize() for _ in range(count)]


def worsened(texts, share, seed):
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(WORDS) if draw.random() < share else w for w in text.split()) for text in texts
    ]


REFERENCES = sentences(150)
FIRST, SECOND = worsened(REFERENCES, 0.3, 1), worsened(REFERENCES, 0.34, 2)


def plain_bleu(hypotheses, references):
    """Papineni et al. 2002 on texts whose tokens stand apart."""
    right, total = [0] * 4, [0] * 4
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        for n in range(1, 5):
            grams, wanted = (
                Counter(tuple(t.split()[i : i + n]) for i in range(len(t.split()) - n + 1))
                for t in (hypothesis, reference)
            )
            right[n - 1] += sum((grams & wanted).values())
            total[n - 1] += sum(grams.values())
    long, short = (sum(len(t.split()) for t in texts) for texts in (hypotheses, references))
    brevity = min(1.0, math.exp(1 - short / long))
    return 100 * brevity * math.exp(sum(math.log(r / t) for r, t in zip(right, total, strict=True)) / 4)


def test_scores_are_sacrebleus_and_say_how_they_were_computed():
    scores = score(FIRST, REFERENCES)
    assert scores["bleu"] == pytest.approx(plain_bleu(FIRST, REFERENCES))
    assert scores["bleu"] == sacrebleu.corpus_bleu(FIRST, [REFERENCES]).score
    assert scores["bleu_lowercase"] == pytest.approx(
        plain_bleu([t.lower() for t in FIRST], [t.lower() for t in REFERENCES])
    )
    assert scores["chrf"] == sacrebleu.corpus_chrf(FIRST, [REFERENCES]).score
    assert scores["ter"] == sacrebleu.corpus_ter(FIRST, [REFERENCES]).score
    assert scores["signature_bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "case:lc" in scores["signature_bleu_lowercase"]
    assert "nc:6|nw:0" in scores["signature_chrf"]
    assert list(scores) == [key for name in METRICS for key in (name, f"signature_{name}")]
    assert all(type(scores[name]) is float for name in METRICS)
    assert list(score(FIRST, REFERENCES, metrics=["chrf"])) == ["chrf", "signature_chrf"]


def test_extremes():
    perfect = score(REFERENCES, REFERENCES)
    assert [round(perfect[name], 6) for name in METRICS] == [100, 100, 100, 0]
    nothing = score([""] * 3, sentences(3))
    assert [nothing[name] for name in METRICS] == [0, 0, 0, 100]
    assert score(["", "a"], ["", ""])["bleu"] == 0
    titled = score([text.title() for text in REFERENCES], REFERENCES)
    assert titled["bleu"] < 50
    assert titled["bleu_lowercase"] == pytest.approx(100)


def test_lines_that_look_tokenised_are_scored_without_a_word(caplog):
    score([text + " ." for text in REFERENCES], REFERENCES)
    assert not caplog.records


@pytest.mark.parametrize("wrong", [([], []), (["a"], ["a", "b"]), (["a", "b"], ["a"])])
def test_a_reference_for_each_and_at_least_one(wrong):
    for function in (score, sentence_bleu, bootstrap_interval, lambda h, r: paired(h, h, r)):
        with pytest.raises(ValueError, match=r"no sentence|references"):
            function(*wrong)


def test_sentence_bleu_takes_the_orders_that_there_are():
    got = sentence_bleu(["Ein Mann", "und eine Frau", "Hut"], ["Ein Mann", "Und eine Frau", "Bank"])
    assert got[0] == pytest.approx(100)
    assert 0 < got[1] < 100
    assert got[2] == 0
    assert sentence_bleu(["und eine Frau"], ["Und eine Frau"], lowercase=True) == [pytest.approx(100)]


@pytest.mark.parametrize("name", METRICS)
def test_intervals_and_p_values_are_sacrebleus(name):
    few = 200
    test = PairedTest(
        [("a", FIRST), ("b", SECOND)],
        {name: translation._metric(name, "")},
        [REFERENCES],
        test_type="bs",
        n_samples=few,
    )
    ((_, (one, two)),) = [(k, v) for k, v in test()[1].items() if k != "System"]
    found = paired(FIRST, SECOND, REFERENCES, metric=name, samples=few)
    assert (found.first, found.second) == (one.score, two.score)
    assert found.p_value == two.p_value
    assert found.difference == two.score - one.score
    interval = bootstrap_interval(FIRST, REFERENCES, metric=name, samples=few)
    assert (interval.mean, interval.half) == pytest.approx((one.mean, one.ci), rel=1e-4)
    assert interval.low < one.score < interval.high
    assert interval == bootstrap_interval(FIRST, REFERENCES, metric=name, samples=few)


def test_resamples_are_the_scores_of_resampled_sentences():
    metric = BLEU()
    statistics = translation._statistics(metric, FIRST, REFERENCES)
    (scores,) = translation._resampled(metric, [statistics], 3)
    generator = np.random.default_rng(translation.SEED)
    for got in scores:
        drawn = generator.choice(len(FIRST), size=len(FIRST))
        again = [FIRST[i] for i in drawn], [[REFERENCES[i] for i in drawn]]
        assert got == pytest.approx(sacrebleu.corpus_bleu(*again).score)


def test_better_systems_differ_and_equal_ones_do_not():
    far = paired(worsened(REFERENCES, 0.6, 3), FIRST, REFERENCES, samples=200)
    assert far.difference > 10
    assert far.p_value == pytest.approx(1 / 201)
    assert paired(FIRST, list(FIRST), REFERENCES, samples=200).p_value == 1
    assert paired(FIRST, worsened(REFERENCES, 0.3, 9), REFERENCES, samples=200).p_value > 0.05


@pytest.mark.parametrize(
    ("language", "tokeniser"),
    [("de", "13a"), ("", "13a"), ("zh", "zh"), ("zh-CN", "zh"), ("zho_Hans", "zh"), ("xx", "13a")],
)
def test_tokeniser_of_the_language(language, tokeniser):
    check_language(language)
    scores = score(["他在看书。", "a"], ["他在看报。", "a"], language=language)
    assert f"|tok:{tokeniser}|" in scores["signature_bleu"]
    assert ("asian:yes" in scores["signature_ter"]) == (tokeniser == "zh")
    assert 0 < scores["ter"] < 100


@pytest.mark.parametrize(("language", "extra"), [("ja", "ja"), ("jpn", "ja"), ("ko_KR", "ko")])
def test_a_missing_tokeniser_names_what_to_install(monkeypatch, language, extra):
    module = pytest.importorskip(f"sacrebleu.tokenizers.tokenizer_{extra}_mecab")
    monkeypatch.setattr(module, "MeCab", None)
    for function in (check_language, lambda code: score(["a"], ["a"], language=code)):
        with pytest.raises(RecipeError, match=f"BLEU of language {language}") as caught:
            function(language)
        assert caught.value.then == f"pip install 'sacrebleu[{extra}]'"
    assert score(["a b"], ["a b"], language=language, metrics=["chrf"])["chrf"] == 100


def test_a_thousand_sentences_are_quick():
    references = sentences(1000, seed=5)
    hypotheses = worsened(references, 0.3, 6)
    score(hypotheses[:1], references[:1])

    def processor(function):
        began = time.process_time()
        function()
        return time.process_time() - began

    # Several times what it takes where nothing else runs.
    assert min(processor(lambda: score(hypotheses, references, metrics=["bleu"])) for _ in range(3)) < 0.5
    assert processor(lambda: bootstrap_interval(hypotheses, references)) < 2


def test_names_are_there_without_sacrebleu_or_numpy():
    code = "import sys, attncli.metrics; print({'sacrebleu', 'numpy', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
