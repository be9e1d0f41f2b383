"""Alignments against sums written out, and pictures of awkward tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from attncli.errors import DeviceError
from attncli.reports.alignment import draw_alignment, pharaoh, word_alignment
from attncli.reports.heads import Layer

SOURCE = ["▁the", "▁dog", "s", "▁bark", "</s>"]
TARGET = ["▁die", "▁Hun", "de", "▁bell", "en", ",", "</s>"]


def test_words_are_sums_over_source_pieces_and_means_over_target_pieces():
    weights = np.array(
        [
            [0.4, 0.3, 0.2, 0.0, 0.1],  # die: the 0.4, dogs 0.5
            [0.5, 0.1, 0.1, 0.3, 0.0],  # Hun: the
            [0.0, 0.5, 0.5, 0.0, 0.0],  # de: dogs, so that the mean of Hunde is dogs
            [0.1, 0.0, 0.0, 0.1, 0.8],  # bell: the and bark alike, once the end is left out
            [0.0, 0.0, 0.1, 0.9, 0.0],
            [0.0, 0.1, 0.2, 0.7, 0.0],
            [0.0, 0.0, 0.0, 0.0, 1.0],
        ]
    )
    links = word_alignment(weights, TARGET, SOURCE)
    assert links == [(1, 0), (1, 1), (2, 2)]
    assert pharaoh(links) == "1-0 1-1 2-2"
    cut = word_alignment(weights[:-1, :-1], TARGET[:-1], SOURCE[:-1])
    assert cut == links


def test_rows_count_alike_however_much_the_end_took():
    # Without making rows sum to 1, the second piece would decide: 0.01 + 0.5 against 0.09 + 0.45.
    weights = np.array([[0.01, 0.09, 0.9], [0.52, 0.48, 0.0]])
    assert word_alignment(weights, ["▁a", "b"], ["▁x", "▁y", "</s>"]) == [(1, 0)]


def test_a_word_that_looks_at_the_end_alone_has_no_link():
    weights = np.array([[0.0, 0.0, 1.0], [0.2, 0.8, 0.0]])
    assert word_alignment(weights, ["▁a", "▁b"], ["▁x", "▁y", "</s>"]) == [(1, 1)]
    assert word_alignment(np.ones((1, 1)), ["</s>"], ["</s>"]) == []
    assert word_alignment(np.ones((1, 2)), ["</s>"], ["▁a", "</s>"]) == []
    assert word_alignment(np.zeros((0, 2)), [], ["▁a", "</s>"]) == []
    assert pharaoh([]) == ""


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["a", "b", "▁c"], [0, 0, 1]),
        (["▁", "a", "▁", "▁b", ",", "▁"], [0, 0, 1, 1, 1, 1]),
        (["▁", "▁"], [0, 0]),
        (["▁a", "</s>", "▁b"], [0, 0, 1]),
        (["▁<0xE4>", "<0xB8>", "▁x▁y"], [0, 0, 1]),
    ],
)
def test_pieces_of_words(pieces, words):
    for target, word in enumerate(words):
        weights = np.eye(len(pieces))[[target]]
        assert word_alignment(weights, ["▁t"], pieces) == [(word, 0)]


@given(
    st.lists(st.text(st.characters(categories=["L", "P"]), min_size=1, max_size=5), min_size=1, max_size=6)
)
def test_words_are_those_that_white_space_separates(words):
    pieces = [piece for word in words for piece in (f"▁{word[0]}", *word[1:])]
    links = word_alignment(np.eye(len(pieces)), pieces, pieces)
    assert links == [(n, n) for n in range(len(words))]


def test_shapes_must_fit(tmp_path):
    for function in (
        lambda w: word_alignment(w, TARGET, SOURCE),
        lambda w: draw_alignment(w, TARGET, SOURCE, tmp_path / "a.png"),
        lambda w: Layer("cross", w[None], TARGET, SOURCE),
    ):
        with pytest.raises(ValueError, match="7 target and 5 source tokens"):
            function(np.zeros((5, 7)))


AWKWARD = [
    "$x^",
    "$",
    "$\\frac{",
    "▁日本",
    "देव",
    "سلام",
    "\u202e",
    "\n",
    "\x00",
    "👩‍🚀",
    "<b>",
    "",
    "x" * 500,
]


@pytest.mark.filterwarnings("error")
def test_pictures_of_any_token_are_drawn_without_a_word(tmp_path):
    path = tmp_path / "alignment.png"
    side = len(AWKWARD)
    draw_alignment(np.eye(side), AWKWARD, AWKWARD, path, title="$\\a$ " + "".join(AWKWARD))
    assert imread(path).ndim == 3
    assert [p.name for p in tmp_path.iterdir()] == ["alignment.png"]
    with pytest.raises(DeviceError, match="could not be written"):
        draw_alignment(np.eye(side), AWKWARD, AWKWARD, tmp_path / "none" / "a.png")


def test_pictures_grow_with_the_sentence_up_to_a_bound(tmp_path):
    def height(count):
        draw_alignment(np.full((count, 3), 1 / 3), ["▁t"] * count, SOURCE[:3], tmp_path / "a.png")
        return imread(tmp_path / "a.png").shape[0]

    short, long, huge = height(8), height(60), height(900)
    assert long - short > 45 * 18  # room for a line of text each
    assert huge < 6000


def test_pictures_show_the_weights(tmp_path):
    blank, lit = tmp_path / "a.png", tmp_path / "b.png"
    draw_alignment(np.zeros((4, 4)), SOURCE[:4], SOURCE[:4], blank)
    draw_alignment(np.eye(4)[::-1], SOURCE[:4], SOURCE[:4], lit)
    changed = np.argwhere((imread(blank) != imread(lit)).any(-1))
    assert np.corrcoef(changed.T)[0, 1] < -0.9  # from the lower left to the upper right
