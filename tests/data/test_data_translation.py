from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.data import translation
from attncli.data.order import EpochBatches, cut
from attncli.data.pair_language import builtin_pairs
from attncli.data.pair_store import PairStore, write_pairs
from attncli.data.pair_tokenizers import PairTokenizer, train_pair_tokenizer
from attncli.data.translation import PairExamples, training_batches, validation_batches
from attncli.errors import RecipeError
from attncli.recipe.translate import PairTokenizer as Settings

PAIRS = list(builtin_pairs()["train"][:300])


@pytest.fixture(scope="module")
def tokenizer() -> PairTokenizer:
    english, german = zip(*PAIRS, strict=True)
    return train_pair_tokenizer(Settings(vocabulary=600), ("en", "de"), english, german)


@pytest.fixture(scope="module")
def store(tokenizer, tmp_path_factory) -> PairStore:
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(folder, PAIRS, tokenizer, 100, "training part")
    return PairStore(folder)


@pytest.fixture
def small_shelves(monkeypatch):
    """An epoch of several shelves."""
    monkeypatch.setattr(translation, "SLICE", 25)
    monkeypatch.setattr(translation, "SLICES", 4)
    monkeypatch.setattr(translation, "SLICES_APART", 3)


@dataclass
class Lengths:
    """A store of which only the lengths matter."""

    source_at: np.ndarray
    target_at: np.ndarray
    max_length: int = 128

    def __len__(self):
        return len(self.source_at) - 1

    @property
    def longest(self):
        return 1 + int(max(np.diff(self.source_at).max(), np.diff(self.target_at).max()))


def epoch(stream):
    """The batches of one epoch."""
    start, found = int(stream.epoch), []
    while stream.epoch < start + 1:
        found += stream.next([0], 1)
    return found


def texts(tokenizer, batch):
    """Source and target of every pair of a batch; the layout is checked on the way."""
    source, tokens, keep = batch["source"], batch["tokens"], batch["source_keep"]
    assert source.shape == keep.shape
    assert all(value.dtype == torch.int64 for key, value in batch.items() if key != "source_keep")
    following = torch.full(tokens.shape, -1)
    following.view(-1)[batch["labels_at"]] = batch["labels"]
    found = []
    for row, kept, read, said in zip(source, keep, tokens, following, strict=True):
        length, size = int(kept.sum()), int((said >= 0).sum())
        assert kept[:length].all()
        assert row[length - 1] == tokenizer.eos_id
        assert (row[length:] == tokenizer.pad_id).all()
        assert read[0] == tokenizer.bos_id
        assert said[size - 1] == tokenizer.eos_id
        assert (read[size:] == tokenizer.pad_id).all()
        assert read[1:size].tolist() == said[: size - 1].tolist()
        assert (said[:size] >= 0).all()
        found.append((tokenizer.decode(row.tolist(), "source"), tokenizer.decode(read.tolist())))
    assert keep.any(0).all()
    assert (following >= 0).any(0).all()
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_each_epoch_has_each_pair_once(tokenizer, store, small_shelves, dropout):
    stream = training_batches(store, tokenizer, batch=256, seed=3, dropout=dropout)
    assert stream.examples.shelves >= 3
    orders = []
    for _ in range(2):
        batches = epoch(stream)
        assert all(len(b["tokens"]) * max(b["tokens"].shape[1], b["source"].shape[1]) <= 256 for b in batches)
        seen = [pair for batch in batches for pair in texts(tokenizer, batch)]
        assert sorted(seen) == sorted(PAIRS)
        orders.append(seen)
    stream.close()
    assert orders[0] != orders[1]


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("stop", [0, 1, 7, 31])
def test_resumed_in_the_middle_goes_on_exactly(tokenizer, store, small_shelves, dropout, stop):
    def stream():
        return training_batches(store, tokenizer, batch=400, seed=5, dropout=dropout)

    straight, first, second = stream(), stream(), stream()
    expected = [straight.next([0], 1)[0] for _ in range(stop + 6)][stop:]
    for _ in range(stop):
        first.next([0], 1)
    second.load_state_dict(first.state_dict())
    for batch in expected:
        (again,) = second.next([0], 1)
        assert all(torch.equal(batch[key], again[key]) for key in batch)
    for each in (straight, first, second):
        each.close()


def test_segmentations_follow_from_seed_and_epoch(tokenizer, store):
    def segmented(seed):
        stream = training_batches(store, tokenizer, batch=512, seed=seed, dropout=0.1)
        epochs = []
        for _ in range(2):
            seen = {}
            for batch in epoch(stream):
                for pair, row in zip(texts(tokenizer, batch), batch["source"].tolist(), strict=True):
                    seen[pair] = tuple(at for at in row if at)
            epochs.append(seen)
        stream.close()
        return epochs

    one, two = segmented(1)
    assert segmented(1) == [one, two]
    plain = {pair: tuple(tokenizer.encode_source(pair[0])) for pair in PAIRS}
    for a, b in ((one, two), (one, segmented(2)[0]), (one, plain)):
        assert 0.3 < sum(a[pair] != b[pair] for pair in PAIRS) / len(PAIRS) <= 1


def test_too_long_segmentations_are_not_taken(tokenizer, tmp_path):
    write_pairs(tmp_path, PAIRS, tokenizer, 100, "training part")
    store = PairStore(tmp_path)
    store.max_length = store.longest
    plain = {pair: len(tokenizer.encode_target(pair[1])) for pair in PAIRS}
    stream = training_batches(store, tokenizer, batch=2048, seed=1, dropout=0.9)
    batches = epoch(stream)
    stream.close()
    assert max(b["tokens"].shape[1] for b in batches) <= store.longest
    lengths = {}
    for batch in batches:
        size = torch.bincount(batch["labels_at"] // batch["tokens"].shape[1]).tolist()
        lengths |= dict(zip(texts(tokenizer, batch), size, strict=True))
    assert lengths.keys() == set(PAIRS)
    kept = sum(lengths[pair] == plain[pair] for pair in PAIRS)
    assert 0 < kept < len(PAIRS)
    free = PairExamples(PairStore(tmp_path), tokenizer, batch=2048, dropout=0.9)
    numbers = np.arange(len(PAIRS))
    grown = np.diff(free._segmented(numbers, np.random.default_rng(0)).target_at) + 1
    assert (grown > store.longest).sum() > 50


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=200),
    st.integers(41, 400),
    st.integers(0, 3),
)
def test_any_lengths_fit_the_budget(tokenizer, lengths, budget, seed):
    source, target = np.array(lengths).T
    store = Lengths(np.append(0, np.cumsum(source)), np.append(0, np.cumsum(target)))
    examples = PairExamples(store, tokenizer, batch=budget)
    groups = [numbers for _, numbers in examples.plan(0, 0, np.random.default_rng(seed))]
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    assert all(len(g) * (1 + max(source[g].max(), target[g].max())) <= budget for g in groups)


@pytest.mark.parametrize("batch", [2048, 4096])
def test_padding_is_little(tokenizer, batch):
    """Lengths such as Multi30k's in 8,000 pieces: 13.4 and 15.5 on average."""
    rng = np.random.default_rng(0)
    source = np.clip(rng.gamma(11.5, 14.4 / 11.5, 29000), 4, 45).astype(np.int64)
    target = np.clip(np.rint(source * 1.12 * rng.lognormal(0, 0.18, len(source))), 3, 60).astype(np.int64)
    store = Lengths(np.append(0, np.cumsum(source)), np.append(0, np.cumsum(target)))
    examples = PairExamples(store, tokenizer, batch=batch)
    padded = real = 0
    counts = []
    for _, numbers in examples.plan(0, 0, np.random.default_rng(1)):
        padded += len(numbers) * (source[numbers].max() + target[numbers].max() + 2)
        real += source[numbers].sum() + target[numbers].sum() + 2 * len(numbers)
        counts.append(len(numbers))
    assert sum(counts) == len(store)
    assert 1 - real / padded < 0.05
    assert min(counts) >= batch // 64 // 2


@pytest.mark.parametrize("of", [2, 3, 5])
def test_parts_make_up_the_batch(tokenizer, store, of):
    stream = EpochBatches(PairExamples(store, tokenizer, batch=700, dropout=0.1), 2, ahead=0)
    for _ in range(4):
        (whole,) = stream.next([0], 1)
        parts = [cut(whole, part, of) for part in range(of)]
        for key in ("source", "source_keep", "tokens", "labels"):
            assert torch.equal(torch.cat([part[key] for part in parts]), whole[key])
        offsets = np.cumsum([0, *(part["tokens"].numel() for part in parts)])
        places = [part["labels_at"] + int(at) for part, at in zip(parts, offsets, strict=False)]
        assert torch.equal(torch.cat(places), whole["labels_at"])
        sizes = [len(part["tokens"]) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_validation_is_complete_and_the_same(tokenizer, store, small_shelves):
    batches = validation_batches(store, tokenizer, batch=300)
    seen = [pair for batch in batches for pair in texts(tokenizer, batch)]
    assert sorted(seen) == sorted(PAIRS)
    again = validation_batches(store, tokenizer, batch=300)
    for at in reversed(range(len(batches))):
        assert all(torch.equal(batches[at][key], again[at][key]) for key in batches[at])


def test_a_batch_takes_the_longest_pair(tokenizer, store):
    with pytest.raises(RecipeError, match=f"longest pair has {store.longest} tokens.*data.max_length=10"):
        training_batches(store, tokenizer, batch=10, seed=1)
    stream = training_batches(store, tokenizer, batch=store.longest, seed=1, dropout=0.5)
    stream.next([0], 1)
    stream.close()
