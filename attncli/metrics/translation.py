"""Metrics of translations: BLEU, chrF and TER as sacreBLEU defines them, with its signatures and tests.

Papineni et al. 2002, https://aclanthology.org/P02-1040; Popovic 2015, https://aclanthology.org/W15-3049;
Snover et al. 2006, https://aclanthology.org/2006.amta-papers.25; Post 2018 (signatures),
https://aclanthology.org/W18-6319. All are per cent of a corpus; TER alone is better when it is lower.

sacreBLEU and NumPy are imported when something is scored, so that the names are there at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attncli.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np

METRICS = ("bleu", "bleu_lowercase", "chrf", "ter")
"""Names of the metrics, as results and ``--require`` have them."""

SAMPLES = 1000
"""Resamples of a bootstrap."""
SEED = 12345
"""Of the resamples: sacreBLEU's own, so that intervals and p-values are the ones that it prints."""

_THREE_LETTERS = {"zho": "zh", "chi": "zh", "cmn": "zh", "jpn": "ja", "kor": "ko"}
_WITHOUT_SPACES = ("zh", "ja")


@dataclass(frozen=True)
class Interval:
    """The 95 % confidence interval of a score."""

    low: float
    high: float
    mean: float
    """Of the resamples."""

    @property
    def half(self) -> float:
        """Half its width: sacreBLEU's number after the plus-minus sign."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same sentences."""

    first: float
    """The first one's score."""
    second: float
    p_value: float
    """Probability of a difference as large as this one by chance."""

    @property
    def difference(self) -> float:
        """The second's score less the first's."""
        return self.second - self.first


def score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    language: str = "",
    metrics: Iterable[str] = METRICS,
) -> dict[str, Any]:
    """Corpus scores by name, and under ``signature_<name>`` how each was computed.

    Args:
        hypotheses: the translations, detokenised; case as it is.
        references: one for each.
        language: code of the language translated to; Chinese, Japanese and Korean have tokenisers of
            their own, every other one has 13a.
        metrics: which ones, of :data:`METRICS`. TER takes longest.

    Raises:
        ValueError: no sentence, or not a reference for each.
        RecipeError: the language's tokeniser is not installed.
    """
    _check(hypotheses, references)
    scores: dict[str, Any] = {}
    for name in metrics:
        metric = _metric(name, language)
        scores[name] = float(metric.corpus_score(hypotheses, [references]).score)
        scores[f"signature_{name}"] = str(metric.get_signature())
    return scores


def statistics(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    language: str = "",
    metrics: Iterable[str] = METRICS,
) -> dict[str, float]:
    """What the scores of a share of the sentences are computed from: to be added up over all shares.

    Of no sentence, no numbers.
    """
    found: dict[str, float] = {}
    for name in metrics if references else ():
        summed = _statistics(_metric(name, language), hypotheses, references).sum(0)
        found |= {f"{name}/{place}": value for place, value in enumerate(summed.tolist())}
    return found


def from_statistics(
    summed: Mapping[str, float], *, language: str = "", metrics: Iterable[str] = METRICS
) -> dict[str, float]:
    """The scores of all sentences, from the sums of :func:`statistics`."""
    import numpy as np

    scores = {}
    for name in metrics:
        numbers = [value for key, value in summed.items() if key.partition("/")[0] == name]
        scores[name] = float(_metric(name, language)._compute_score_from_stats(np.array(numbers)).score)
    return scores


def sentence_bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, language: str = "", lowercase: bool = False
) -> list[float]:
    """BLEU of each sentence, for listing: of the orders that a short sentence has, smoothed.

    The mean of these is not the corpus's BLEU.
    """
    _check(hypotheses, references)
    metric = _metric("bleu_lowercase" if lowercase else "bleu", language, effective_order=True)
    pairs = zip(hypotheses, references, strict=True)
    return [metric.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs]


def bootstrap_interval(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    metric: str = "bleu",
    language: str = "",
    samples: int = SAMPLES,
) -> Interval:
    """The score's 95 % interval by bootstrap: what it is on as many sentences drawn anew, ``samples`` times.

    The same numbers in every call, and the ones of ``sacrebleu --confidence``.
    """
    _check(hypotheses, references)
    scorer = _metric(metric, language)
    (scores,) = _resampled(scorer, [_statistics(scorer, hypotheses, references)], samples)
    scores.sort()
    cut = samples // 40
    return Interval(low=float(scores[cut]), high=float(scores[-cut - 1]), mean=float(scores.mean()))


def paired(
    hypotheses_a: Sequence[str],
    hypotheses_b: Sequence[str],
    references: Sequence[str],
    *,
    metric: str = "bleu",
    language: str = "",
    samples: int = SAMPLES,
) -> Comparison:
    """Whether two systems differ by more than chance: the paired bootstrap (Koehn 2004).

    https://aclanthology.org/W04-3250. The p-values of ``sacrebleu --paired-bs``, except that systems which
    differ in no resample have 1.
    """
    _check(hypotheses_a, references)
    _check(hypotheses_b, references)
    scorer = _metric(metric, language)
    statistics = [_statistics(scorer, each, references) for each in (hypotheses_a, hypotheses_b)]
    first, second = (float(scorer._compute_score_from_stats(each.sum(0)).score) for each in statistics)
    scores_a, scores_b = _resampled(scorer, statistics, samples)
    differences = abs(scores_b - scores_a)
    if not differences.any():
        return Comparison(first, second, p_value=1.0)
    as_large = int((differences - differences.mean() > abs(second - first)).sum())
    return Comparison(first, second, p_value=(as_large + 1) / (samples + 1))


def check_language(language: str) -> None:
    """Refuse, before training, a target language whose tokeniser for BLEU is not installed.

    :class:`RecipeError` names what to install.
    """
    _metric("bleu", language)


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} translations, but {len(references)} references")
    if not references:
        raise ValueError("no sentence to score")


def _code(language: str) -> str:
    """``zh`` of ``zh``, ``zh-CN``, ``zho_Hans``."""
    first = language.lower().replace("_", "-").partition("-")[0]
    return _THREE_LETTERS.get(first, first)


def _metric(name: str, language: str, **options: Any) -> Any:
    """The sacreBLEU metric of one name."""
    from sacrebleu.metrics import BLEU, CHRF, TER

    code = _code(language)
    asian = code in _WITHOUT_SPACES  # TER of their sentences as single words would say nothing
    make: dict[str, Callable[[], Any]] = {
        "bleu": lambda: BLEU(trg_lang=code, force=True, **options),
        "bleu_lowercase": lambda: BLEU(trg_lang=code, force=True, lowercase=True, **options),
        "chrf": lambda: CHRF(**options),
        "ter": lambda: TER(normalized=asian, asian_support=asian, **options),
    }
    try:
        return make[name]()
    except RuntimeError:  # MeCab or its dictionary is missing
        what = f"BLEU of language {language} is counted in MeCab's words, and MeCab is not installed"
        raise RecipeError(what, then=f"pip install 'sacrebleu[{code}]'") from None


def _statistics(metric: Any, hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """What a score is computed from once it is summed over sentences: [sentences, statistics]."""
    import numpy as np

    return np.array(metric._extract_corpus_statistics(hypotheses, [references]), dtype=np.float64)


def _resampled(metric: Any, systems: Sequence[np.ndarray], samples: int) -> list[np.ndarray]:
    """Each system's score [samples] on the same resamples of the sentences.

    sacreBLEU's own function holds every resample's statistics at once: gigabytes for a large test set. This
    one draws the same resamples, and holds one.
    """
    import numpy as np

    generator = np.random.default_rng(SEED)
    sentences = len(systems[0])
    scores = [np.empty(samples) for _ in systems]
    for sample in range(samples):
        drawn = generator.choice(sentences, size=sentences, replace=True)
        times = np.bincount(drawn, minlength=sentences).astype(np.float64)
        for out, statistics in zip(scores, systems, strict=True):
            out[sample] = metric._compute_score_from_stats(times @ statistics).score
    return scores
