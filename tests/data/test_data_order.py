import threading
import time

import numpy as np
import pytest
import torch

from attncli.data.order import EpochBatches, EvaluationBatches, cut, generator
from attncli.errors import DataError, RecipeError


class Numbers:
    """Examples 0..n-1 of each shelf, shuffled; some rows have flat labels."""

    def __init__(self, shelves=1, count=20, batch=6):
        self.shelves, self.count, self.batch = shelves, count, batch
        self.made = 0

    def plan(self, epoch, shelf, rng):
        shelf = rng.permutation(self.shelves)[shelf]
        order = rng.spawn(self.shelves)[shelf].permutation(self.count) + shelf * self.count
        return [order[i : i + self.batch] for i in range(0, self.count - self.batch + 1, self.batch)]

    def make(self, item, rng):
        self.made += 1
        tokens = torch.from_numpy(np.stack([item, rng.integers(1000, size=len(item))], 1))
        return {
            "labels": torch.from_numpy(rng.integers(50, size=len(item))),
            "labels_at": torch.from_numpy(np.sort(rng.permutation(2 * len(item))[: len(item)])),
            "tokens": tokens,
            "pair": tokens[:, 0] % 2,
        }


def batches(stream, count, of=1):
    return [stream.next(range(of), of) for _ in range(count)]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_each_epoch_sees_each_example_once():
    stream = EpochBatches(Numbers(shelves=3, count=12), seed=1)
    for epoch in range(2):
        seen = torch.cat([stream.next([0], 1)[0]["tokens"][:, 0] for _ in range(6)])
        assert sorted(seen.tolist()) == list(range(36))
        assert stream.epoch == pytest.approx(epoch + 1)
        assert seen.tolist() != list(range(36))
    stream.close()


@pytest.mark.parametrize("of", [2, 3, 4])
def test_any_number_of_parts_sees_the_same_batch(of):
    whole = batches(EpochBatches(Numbers(), 7), 5)
    parted = batches(EpochBatches(Numbers(), 7, ahead=0), 5, of)
    for (one,), parts in zip(whole, parted, strict=True):
        assert torch.equal(torch.cat([p["tokens"] for p in parts]), one["tokens"])
        assert torch.equal(torch.cat([p["pair"] for p in parts]), one["pair"])
        assert torch.equal(torch.cat([p["labels"] for p in parts]), one["labels"])
        found = torch.cat([p["tokens"].reshape(-1)[p["labels_at"]] for p in parts])
        assert torch.equal(found, one["tokens"].reshape(-1)[one["labels_at"]])
        assert all(len(p["tokens"]) in (6 // of, 6 // of + 1) for p in parts)


def test_causal_labels_are_cut_by_row():
    batch = {"tokens": torch.arange(12).view(4, 3), "labels": torch.arange(12).view(4, 3) + 1}
    assert cut(batch, 1, 2)["labels"].tolist() == [[7, 8, 9], [10, 11, 12]]
    with pytest.raises(RecipeError, match="fewer examples than the 5 parts"):
        cut(batch, 0, 5)


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 9])
def test_resumed_stream_goes_on_exactly(stop):
    straight = EpochBatches(Numbers(shelves=2), 3)
    expected = batches(straight, 15)
    first = EpochBatches(Numbers(shelves=2), 3)
    batches(first, stop)
    state = first.state_dict()
    assert all(isinstance(value, int | float) for value in state.values())
    second = EpochBatches(Numbers(shelves=2), 3, ahead=1)
    batches(second, 5)
    second.load_state_dict(state)
    assert second.epoch == first.epoch
    assert all(same(a, b) for (a,), (b,) in zip(batches(second, 15 - stop), expected[stop:], strict=True))
    assert second.state_dict() == straight.state_dict()


def test_prefetch_is_bounded_and_stops():
    before = threading.active_count()
    examples = Numbers()
    stream = EpochBatches(examples, 1, ahead=2)
    stream.next([0], 1)
    time.sleep(0.3)
    assert examples.made <= 4  # handed out, two waiting, one in hand
    stream.close()
    assert threading.active_count() == before
    again = batches(stream, 1)[0][0]
    assert same(again, batches(EpochBatches(Numbers(), 1), 2)[1][0])
    del stream
    time.sleep(0.3)
    assert threading.active_count() == before


def test_errors_of_the_thread_reach_the_caller():
    class Broken(Numbers):
        def make(self, item, rng):
            if self.made == 2:
                raise OSError("disk gone")
            return super().make(item, rng)

    stream = EpochBatches(Broken(), 1)
    batches(stream, 2)
    for _ in range(2):
        with pytest.raises(OSError, match="disk gone"):
            stream.next([0], 1)
    stream.close()
    with pytest.raises(DataError, match="too little for one batch"):
        EpochBatches(Numbers(count=3), 1).next([0], 1)


def test_evaluation_is_complete_the_same_and_by_index():
    def evaluation(most=0):
        return EvaluationBatches(Numbers(shelves=3, count=12), 5, most)

    whole = list(evaluation())
    assert sorted(torch.cat([b["tokens"][:, 0] for b in whole]).tolist()) == list(range(36))
    backwards = evaluation()
    assert all(same(backwards[i], whole[i]) for i in reversed(range(6)))
    assert [same(a, b) for a, b in zip(evaluation(3), whole[::2], strict=True)] == [True] * 3
    with pytest.raises(DataError, match="too little for one example"):
        EvaluationBatches(Numbers(count=2), 1)


def test_generators_depend_on_every_part_of_their_place():
    draws = {generator(seed, a, b).integers(1 << 60) for seed in range(5) for a in range(5) for b in range(5)}
    assert len(draws) == 125
    assert generator(1, 2).integers(1 << 60) == generator(1, 2).integers(1 << 60)
