"""Rows without their padding, against lists."""

import torch

from attncli.layers.ragged import Ragged
from attncli.layers.recurrent import Bidirectional, turned_places

KEEP = torch.tensor(
    [
        [True, True, False, False],
        [False, False, False, False],
        [True, True, True, True],
        [False, True, False, True],  # kept places may stand anywhere
        [False, False, True, False],
    ]
)
ROWS = [[8, 9, 10, 11], [0, 1], [13, 15], [18]]  # longest first, equals in their order


def test_tokens_come_time_by_time_longest_row_first():
    ragged = Ragged(KEEP)
    assert ragged.rows.tolist() == [2, 0, 3, 4]
    assert ragged.lengths.tolist() == [4, 2, 2, 1]
    assert ragged.sizes.tolist() == [4, 3, 1, 1]
    by_time = [row[t] for t in range(4) for row in ROWS if t < len(row)]
    assert ragged.flat.tolist() == by_time
    assert ragged.row.tolist() == [at for t in range(4) for at, row in enumerate(ROWS) if t < len(row)]
    assert ragged.flat[ragged.turned].tolist() == [
        row[::-1][t] for t in range(4) for row in ROWS if t < len(row)
    ]
    assert torch.equal(ragged.turned[ragged.turned], torch.arange(9))


def test_padding_and_back():
    ragged = Ragged(KEEP)
    x = ragged.flat.unsqueeze(1).float()
    padded = ragged.pad(x, -1.0)
    assert [[int(v) for v in row if v >= 0] for row in padded.squeeze(2)] == ROWS
    assert torch.equal(padded.squeeze(2) >= 0, ragged.keep)
    assert torch.equal(ragged.unpad(padded), x)


def test_nothing_kept():
    ragged = Ragged(torch.zeros(3, 4, dtype=torch.bool))
    assert [len(part) for part in (ragged.rows, ragged.flat, ragged.sizes, ragged.turned)] == [0, 0, 0, 0]


def test_recurrent_layers_read_packed_rows_as_padded_ones():
    torch.manual_seed(1)
    keep = torch.arange(6) < torch.tensor([[3], [6], [1], [4]])
    x = torch.randn(4, 6, 5, dtype=torch.float64)
    ragged = Ragged(keep)
    for cell in ("gru", "lstm"):
        layer = Bidirectional(cell, 5, 3).double()
        want = layer(x, turned_places(keep.sum(1), 6)).flatten(0, 1)[ragged.flat]
        got = layer.packed(x.flatten(0, 1)[ragged.flat], ragged)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
