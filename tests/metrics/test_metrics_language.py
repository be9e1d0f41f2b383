import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.metrics.language import Totals, bits_per_byte, means, perplexity, unigram_loss


@given(st.lists(st.lists(st.floats(0, 9), min_size=1, max_size=9), min_size=1, max_size=6))
def test_mean_does_not_depend_on_how_it_was_cut(batches):
    totals = Totals()
    for batch in batches:
        totals.add("loss", sum(batch), len(batch))
    assert means(totals.values)["loss"] == pytest.approx(np.mean(np.concatenate(batches)))


def test_totals_add_up_over_processes():
    one, two = Totals(), Totals()
    one.add("accuracy", 3, 4)
    two.add("accuracy", 1, 6)
    both = {key: one.values[key] + two.values[key] for key in one.values}
    assert means(both) == {"accuracy": 0.4}
    two.add("pair", 0, 0)
    assert math.isnan(means(two.values)["pair"])


def test_perplexity_and_bits():
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(1e6) == math.inf
    # A uniform guess over 256 bytes costs 8 bits a byte, however many bytes a token has.
    assert bits_per_byte(math.log(256), tokens=1000, size=1000) == pytest.approx(8)
    assert bits_per_byte(2 * math.log(256), tokens=500, size=1000) == pytest.approx(8)


def test_unigram_loss_is_the_entropy_where_the_parts_agree():
    counts = np.array([0, 60_000, 30_000, 10_000])
    share = counts[1:] / counts.sum()
    assert unigram_loss(counts.tolist(), (counts // 10).tolist()) == pytest.approx(
        -(share * np.log(share)).sum(), rel=1e-3
    )
    assert unigram_loss([5, 0], [0, 1]) == pytest.approx(math.log(7))
    uniform = unigram_loss([10] * 8, [1, 2, 3, 4, 5, 6, 7, 8])
    assert uniform == pytest.approx(math.log(8))
