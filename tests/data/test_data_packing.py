import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attncli.data.packing import full_sentences, packed, ranges, sentence_pairs, truncated, windows

sizes = st.lists(st.integers(1, 60), min_size=1, max_size=40)
documents = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=1, max_size=10)


def laid_out(document_sizes):
    """Documents of sentence sizes as first tokens of sentences and an end, with gaps between documents."""
    made, at = [], 5
    for sentence_sizes in document_sizes:
        off = at + np.concatenate([[0], np.cumsum(sentence_sizes)])
        made.append(off)
        at = off[-1] + 3
    return made


def covered(rows):
    return ranges(rows.start, rows.length)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), max_size=20))
def test_ranges(pairs):
    start, length = np.array([p[0] for p in pairs], int), np.array([p[1] for p in pairs], int)
    assert ranges(start, length).tolist() == [i for s, n in pairs for i in range(s, s + n)]


@given(sizes, st.integers(3, 40), st.integers(0, 9))
def test_packed_rows_hold_every_token_once_within_the_room(length, room, seed):
    length = np.array(length)
    start = np.cumsum(length) - length
    rows = packed(start, length, room, np.random.default_rng(seed))
    assert sorted(covered(rows).tolist()) == list(range(length.sum()))
    _, column, used = rows.layout()
    assert used.max() <= room
    assert rows.opens.all()
    assert (column >= 1).all()
    # A document is cut only where it is longer than a row.
    pieces = -(-length // (room - 2))
    assert len(rows.start) == pieces.sum()
    # No two rows could have been one.
    spare = np.sort(room - used)
    assert len(rows) == 1 or spare[-1] < np.sort(used)[1] or spare[-2] < used.min()


def test_packing_leaves_almost_no_padding():
    rng = np.random.default_rng(0)
    length = np.minimum(rng.geometric(1 / 90, size=3000), 2000)
    rows = packed(np.cumsum(length) - length, length, 128, rng)
    assert rows.layout()[2].sum() / (len(rows) * 128) > 0.99


@given(documents, st.integers(4, 50))
def test_full_rows_hold_every_token_once_in_order(document_sizes, budget):
    made = laid_out(document_sizes)
    rows = full_sentences(made, budget)
    assert covered(rows).tolist() == [i for off in made for i in range(off[0], off[-1])]
    row, _, used = rows.layout()
    assert used.max() <= budget + 2
    assert rows.opens.tolist() == (np.diff(row, prepend=-1) != 0).tolist()
    # Runs of one row lie in different documents; short rows end with a sentence, but for the last.
    ends = {int(e) for off in made for e in off[1:]}
    for r in range(len(rows) - 1):
        last = rows.first[r + 1] - 1
        if used[r] < budget + 1:
            assert int(rows.start[last] + rows.length[last]) in ends
            assert budget + 2 - used[r] <= budget // 8 + 1


@given(sizes, st.integers(2, 30))
def test_windows_cover_each_document_with_full_rows(length, budget):
    length = np.array(length)
    start = np.cumsum(length) - length
    rows = windows(start, length, budget)
    assert set(covered(rows).tolist()) == set(range(length.sum()))
    owner = np.searchsorted(start, rows.start, side="right") - 1
    assert (rows.length == np.minimum(length, budget)[owner]).all()
    assert (rows.start + rows.length <= (start + length)[owner]).all()
    assert len(rows) == (-(-length // budget)).sum()


@given(documents, st.integers(4, 60), st.integers(0, 99), st.sampled_from(["next", "order"]))
def test_pairs_are_sentences_of_their_document(document_sizes, budget, seed, objective):
    made = laid_out(document_sizes)
    pairs = sentence_pairs(list(enumerate(made)), budget, objective, np.random.default_rng(seed))
    for d, a, n, b, m, label in zip(*(getattr(pairs, f) for f in pairs.__dataclass_fields__), strict=True):
        starts, end = set(made[d].tolist()), made[d][-1]
        assert made[d][0] <= a < a + n <= end
        assert n > 0
        if b < 0:
            assert label == 1
            assert objective == "next"
            assert a in starts
        else:
            first, second = ((b, m), (a, n)) if objective == "order" and label else ((a, n), (b, m))
            assert first[0] + first[1] == second[0]
            assert first[0] in starts
            assert second[0] + second[1] in starts
    # Every document is used, and without a random half every token is.
    if objective == "order":
        used = set(ranges(np.minimum(pairs.a_start, pairs.b_start), pairs.a_length + pairs.b_length).tolist())
        assert used >= {i for off in made for i in range(off[0], off[-1]) if len(off) > 2}
    elif pairs.document.size:
        assert set(pairs.document.tolist()) == set(range(len(made)))


def reference_truncation(a, b, budget):
    while a + b > budget:
        if a > b:
            a -= 1
        else:
            b -= 1
    return a, b


@given(documents, st.integers(4, 40), st.integers(0, 99))
def test_truncation_is_the_published_one(document_sizes, budget, seed):
    rng = np.random.default_rng(seed)
    pairs = sentence_pairs(list(enumerate(laid_out(document_sizes))), budget, "order", rng)
    rows = truncated(pairs, budget, rng)
    a, b = rows.length[::2], rows.length[1::2]
    for at in range(len(rows)):
        assert (a[at], b[at]) == reference_truncation(pairs.a_length[at], pairs.b_length[at], budget)
        assert pairs.a_start[at] <= rows.start[2 * at]
        assert rows.start[2 * at] + a[at] <= pairs.a_start[at] + pairs.a_length[at]
    assert (a + b <= budget).all()


def test_truncation_takes_from_both_ends():
    rng = np.random.default_rng(0)
    pairs = sentence_pairs([(0, np.arange(0, 400_000, 100))], 150, "order", rng)
    rows = truncated(pairs, 150, rng)
    cut_front = rows.start[::2] - pairs.a_start
    cut = pairs.a_length - rows.length[::2]
    assert 0.48 < cut_front.sum() / cut.sum() < 0.52
