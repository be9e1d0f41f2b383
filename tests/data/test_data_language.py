import os
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from attncli.data import language
from attncli.data.corpus import prepare
from attncli.data.language import (
    CausalCover,
    CausalExamples,
    MaskedExamples,
    training_batches,
    validation_batches,
)
from attncli.data.order import generator
from attncli.errors import DataError
from attncli.recipe.pretrain import Objective, TextData, TextTokenizer

LENGTH, BATCH = 48, 8


def masked(corpus, whole=True, batch=BATCH, **objective):
    return MaskedExamples(
        corpus.train,
        corpus.tokenizer,
        length=LENGTH,
        batch=batch,
        objective=Objective(**objective),
        whole=whole,
    )


def epoch_of(examples, epoch=0, seed=1):
    """All batches of an epoch, with the labels put back into the tokens."""
    for shelf in range(examples.shelves):
        plan = examples.plan(epoch, shelf, generator(seed, 0, epoch))
        for at in range(len(plan)):
            batch = examples.make(plan[at], generator(seed, 1, epoch, shelf, at))
            if "labels_at" in batch:
                batch["masked"] = batch["tokens"].clone()
                batch["tokens"].view(-1)[batch["labels_at"]] = batch["labels"]
            yield batch


def rows(examples, **more):
    for batch in epoch_of(examples, **more):
        for r in range(len(batch["tokens"])):
            yield {key: value[r] for key, value in batch.items() if value.ndim == 2 or key == "pair"}


def text_of(corpus, ids):
    return corpus.tokenizer.decode(ids)


def sentences_of(corpus, split="train"):
    """Token sequences of the sentences of each document."""
    store = getattr(corpus, split)
    return [
        [store.tokens[store.sentences[s] : store.sentences[s + 1]].tolist() for s in range(low, high)]
        for low, high in zip(store.documents[:-1], store.documents[1:], strict=True)
    ]


@pytest.fixture
def small_slices(monkeypatch):
    """Many slices and shelves in a small text."""
    monkeypatch.setattr(language, "SLICE", 500)
    monkeypatch.setattr(language, "SLICES", 4)


def segments(corpus, row):
    """The two segments without special tokens, after checking the frame."""
    tokenizer, tokens, kinds = corpus.tokenizer, row["tokens"], row["segments"]
    used = int((tokens != tokenizer.pad_id).sum())
    tokens, kinds = tokens[:used].tolist(), kinds[:used].tolist()
    assert row["segments"][used:].sum() == 0
    assert "keep" not in row or row["keep"].tolist() == [i < used for i in range(len(row["keep"]))]
    cut = kinds.index(1)
    assert kinds == [0] * cut + [1] * (used - cut)
    assert (tokens[0], tokens[cut - 1], tokens[-1]) == (tokenizer.cls_id, tokenizer.sep_id, tokenizer.sep_id)
    return tokens[1 : cut - 1], tokens[cut:-1]


def places(corpus, ids):
    """Document numbers that the text names in this segment, and its sentence numbers."""
    words = text_of(corpus, ids).split()
    return {w for w in words if w.startswith("doc") and w[3:].isdigit()}, [
        int(w[1:]) for w in words if w[:1] == "s" and w[1:].isdigit()
    ]


def packed_text(ids):
    """Ids as a string, one character each, to search in."""
    return "".join(map(chr, ids))


@pytest.mark.parametrize("sliced", [False, True])
def test_next_sentence_labels_are_true_and_balanced(corpus_of, request, sliced):
    if sliced:
        request.getfixturevalue("small_slices")
    corpus = corpus_of(sentences="next")
    flat = [packed_text(chain.from_iterable(document)) for document in sentences_of(corpus)]
    labels, full = [], 0
    examples = masked(corpus, sentences="next")
    assert (examples.shelves > 3) == sliced
    for row in rows(examples):
        first, second = map(packed_text, segments(corpus, row))
        labels.append(int(row["pair"]))
        full += len(first) + len(second) == LENGTH - 3
        homes_a = {d for d, tokens in enumerate(flat) if first in tokens}
        homes_b = {d for d, tokens in enumerate(flat) if second in tokens}
        assert homes_a
        assert homes_b
        if labels[-1]:
            assert homes_a != homes_b or len(homes_a) > 1
        else:
            assert any(second in flat[home].partition(first)[2] for home in homes_a & homes_b)
    assert len(labels) > 500
    assert 0.44 < np.mean(labels) < 0.56
    assert full / len(labels) > 0.85


def test_sentence_order_labels_are_true_and_balanced(corpus_of):
    corpus = corpus_of(sentences="order")
    labels = []
    for row in rows(masked(corpus, sentences="order")):
        (a, order_a), (b, order_b) = (places(corpus, part) for part in segments(corpus, row))
        assert len(a | b) <= 1
        labels.append(int(row["pair"]))
        if order_a and order_b:
            assert (max(order_a) < min(order_b)) if labels[-1] == 0 else (min(order_a) > max(order_b))
    assert len(labels) > 300
    assert 0.42 < np.mean(labels) < 0.58


def test_single_segments_stay_in_a_document_and_cover_it(corpus_of):
    corpus = corpus_of()
    documents = [packed_text(chain.from_iterable(document)) for document in sentences_of(corpus)]
    seen = set()
    full = total = 0
    for row in rows(masked(corpus)):
        assert "segments" not in row
        used = int((row["tokens"] != corpus.tokenizer.pad_id).sum())
        full, total = full + (used == LENGTH), total + 1
        body = packed_text(row["tokens"][1 : used - 1].tolist())
        homes = [number for number, tokens in enumerate(documents) if body in tokens]
        assert homes
        seen.update(homes)
    assert len(seen) == len(documents)
    assert full / total > 0.9


@pytest.mark.parametrize("packing", ["full", "packed"])
@pytest.mark.parametrize("sliced", [False, True])
def test_each_token_is_seen_once_in_an_epoch(corpus_of, packing, sliced, request):
    if sliced:
        request.getfixturevalue("small_slices")
    corpus = corpus_of(packing=packing)
    examples = masked(corpus, packing=packing)
    assert (examples.shelves > 1) == sliced
    for epoch in (0, 1):
        counts = np.zeros(corpus.tokenizer.vocabulary, np.int64)
        filled = room = 0
        for batch in epoch_of(examples, epoch):
            counts += np.bincount(batch["tokens"].reshape(-1).numpy(), minlength=len(counts))
            keep = batch.get("keep", torch.ones_like(batch["tokens"], dtype=torch.bool))
            assert torch.equal(keep, batch["tokens"] != corpus.tokenizer.pad_id)
            assert batch["tokens"].shape[1] <= LENGTH
            filled, room = filled + int(keep.sum()), room + keep.numel()
        counts[corpus.tokenizer.special_ids] = 0
        assert counts.tolist() == corpus.train.counts.tolist()
        assert filled / room > 0.93


def test_full_rows_cross_documents_with_a_separator(corpus_of):
    corpus = corpus_of(packing="full")
    tokenizer = corpus.tokenizer
    crossing = 0
    for row in rows(masked(corpus, packing="full")):
        used = row["tokens"][row["tokens"] != tokenizer.pad_id].tolist()
        assert (used[0], used[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
        assert tokenizer.cls_id not in used[1:]
        parts, part = [], []
        for at in used[1:]:
            if at == tokenizer.sep_id:
                parts.append(part)
                part = []
            else:
                part.append(at)
        assert all(parts)
        names = [places(corpus, part)[0] for part in parts]
        assert all(len(n) <= 1 for n in names)
        crossing += len(parts) > 1
    assert crossing > 30


def test_packed_rows_keep_documents_apart(corpus_of):
    corpus = corpus_of(packing="packed")
    tokenizer = corpus.tokenizer
    several = 0
    for row in rows(masked(corpus, packing="packed")):
        tokens, documents, positions = (row[key].tolist() for key in ("tokens", "documents", "positions"))
        keep = row["keep"].tolist() if "keep" in row else [True] * len(tokens)
        for number in range(max(documents) + 1):
            at = [i for i, d in enumerate(documents) if d == number]
            assert at == list(range(at[0], at[-1] + 1))
            assert [positions[i] for i in at] == list(range(len(at)))
            assert len({keep[i] for i in at}) == 1
            if keep[at[0]]:
                assert (tokens[at[0]], tokens[at[-1]]) == (tokenizer.cls_id, tokenizer.sep_id)
                assert len(places(corpus, [tokens[i] for i in at])[0]) <= 1
            else:
                assert number == max(documents)
        several += max(documents) > 0
    assert several > 20


def test_masks_are_new_each_epoch_and_never_on_special_tokens(corpus_of):
    corpus = corpus_of(packing="full")
    examples = masked(corpus, packing="full")
    special = set(corpus.tokenizer.special_ids) - {corpus.tokenizer.unk_id}
    chosen = masked_ids = ordinary = 0
    for epoch in (0, 1):
        for batch in epoch_of(examples, epoch):
            assert not special & set(batch["labels"].tolist())
            at = batch["masked"].view(-1)[batch["labels_at"]]
            assert not (special - {corpus.tokenizer.mask_id}) & set(at.tolist())
            masked_ids += int((at == corpus.tokenizer.mask_id).sum())
            chosen += len(at)
            ordinary += int((batch["tokens"] > 4).sum())
    assert chosen / ordinary == pytest.approx(0.15, abs=0.003)
    assert masked_ids / chosen == pytest.approx(0.8, abs=0.02)
    one, two = (next(iter(epoch_of(examples, 0, seed)))["labels_at"].tolist() for seed in (1, 2))
    assert one != two


@pytest.mark.parametrize("kind", ["wordpiece", "bytebpe"])
def test_whole_words_are_masked_together(corpus_of, kind):
    corpus = corpus_of(kind, packing="full", whole_word=True)
    starts = torch.from_numpy(corpus.tokenizer.starts_word)
    special = torch.tensor(corpus.tokenizer.special_ids)
    pieces = 0
    for batch in epoch_of(masked(corpus, packing="full", whole_word=True)):
        chosen = torch.zeros(batch["tokens"].numel(), dtype=torch.bool)
        chosen[batch["labels_at"]] = True
        chosen = chosen.view(batch["tokens"].shape)
        goes_on = ~starts[batch["tokens"]][:, 1:] & ~torch.isin(batch["tokens"][:, :-1], special)
        goes_on &= ~torch.isin(batch["tokens"][:, 1:], special)
        assert torch.equal(chosen[:, 1:][goes_on], chosen[:, :-1][goes_on])
        pieces += int(goes_on.sum())
    assert pieces > 30


OBJECTIVES = [
    {"sentences": "next"},
    {"sentences": "order"},
    {},
    {"packing": "full"},
    {"packing": "packed"},
    {"kind": "clm"},
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_stream_is_the_same_for_any_cut_and_after_resuming(corpus_of, objective, small_slices):
    corpus = corpus_of(**objective)

    def stream():
        return training_batches(
            corpus.train,
            corpus.tokenizer,
            length=LENGTH,
            batch=BATCH,
            objective=Objective(**objective),
            seed=3,
        )

    straight, cut = stream(), stream()
    expected = [straight.next([0], 1)[0] for _ in range(12)]
    parts = [cut.next([0, 1, 2], 3) for _ in range(7)]
    resumed = stream()
    resumed.load_state_dict(cut.state_dict())
    parts += [resumed.next([0, 1, 2], 3) for _ in range(5)]
    for whole, some in zip(expected, parts, strict=True):
        for key, value in whole.items():
            if key != "labels_at":
                assert torch.equal(torch.cat([part[key] for part in some]), value)
        if "labels_at" in whole:
            found = torch.cat([part["tokens"].reshape(-1)[part["labels_at"]] for part in some])
            assert torch.equal(found, whole["tokens"].reshape(-1)[whole["labels_at"]])
    for each in (straight, cut, resumed):
        each.close()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_validation_is_fixed(corpus_of, objective):
    corpus = corpus_of(**objective)

    def batches():
        settings = {"length": LENGTH, "batch": BATCH, "objective": Objective(**objective)}
        return validation_batches(corpus.validation, corpus.tokenizer, **settings)

    first, second = batches(), batches()
    assert len(first) > 1
    for at in reversed(range(len(second))):
        assert all(torch.equal(first[at][key], value) for key, value in second[at].items())


@pytest.mark.parametrize("sliced", [False, True])
def test_causal_epochs_cover_the_text_once(corpus_of, sliced, request):
    if sliced:
        request.getfixturevalue("small_slices")
    store = corpus_of(kind="clm").train
    examples = CausalExamples(store, length=LENGTH, batch=1)
    firsts = []
    for epoch in range(3):
        made = [(b["tokens"][0], b["labels"][0]) for b in epoch_of(examples, epoch)]
        assert all(torch.equal(tokens[1:], labels[:-1]) for tokens, labels in made)
        plans = [examples.plan(epoch, shelf, generator(1, 0, epoch)) for shelf in range(examples.shelves)]
        starts = [int(plan[at][0]) for plan in plans for at in range(len(plan))]
        assert made[0][0].tolist() == store.tokens[starts[0] : starts[0] + LENGTH].tolist()
        assert starts != sorted(starts)
        starts.sort()
        assert set(np.diff(starts).tolist()) == {LENGTH}
        assert starts[0] < LENGTH
        assert len(store) - 1 - starts[-1] - LENGTH < LENGTH
        firsts.append(starts[0])
    assert len(set(firsts)) > 1


@pytest.mark.parametrize("stride", [0, 1, 7, LENGTH])
@pytest.mark.parametrize("cut", [None, LENGTH + 1, LENGTH, LENGTH - 5, 2, 2 * LENGTH + 1])
def test_causal_validation_predicts_every_token_but_the_first_once(corpus_of, stride, cut):
    store = corpus_of(kind="clm").validation

    class Part:
        tokens = store.tokens[: cut or 400]

        def __len__(self):
            return len(self.tokens)

    part = Part()
    predicted = []
    for batch in epoch_of(CausalCover(part, length=LENGTH, batch=3, stride=stride)):
        for tokens, labels in zip(batch["tokens"], batch["labels"], strict=True):
            at = (labels != -100).nonzero()[:, 0]
            assert at.tolist() == list(range(int(at[0]), len(labels)))
            predicted += labels[at].tolist()
            assert torch.equal(
                tokens[at[at > 0]],
                labels[at[at > 0] - 1].where(labels[at[at > 0] - 1] >= 0, tokens[at[at > 0]]),
            )
            if stride == 7 and len(predicted) > LENGTH:
                assert len(at) <= 7
    assert predicted == part.tokens[1:].tolist()


def test_too_little_text_is_told_before_training(corpus_of):
    corpus = corpus_of(packing="full")
    settings = {"tokenizer": corpus.tokenizer, "length": 128, "seed": 1}
    with pytest.raises(DataError, match=r"makes \d+ examples of 128 tokens, fewer than train\.batch=5000"):
        training_batches(corpus.train, batch=5000, objective=Objective(packing="full"), **settings)
    with pytest.raises(DataError, match=r"makes \d+ examples"):
        training_batches(corpus.train, batch=5000, objective=Objective(kind="clm"), **settings)
    with pytest.raises(DataError, match=r"model\.length=4: fewer than the 5"):
        MaskedExamples(
            corpus.train, corpus.tokenizer, length=4, batch=2, objective=Objective(sentences="next")
        )
    causal = corpus_of(kind="clm")
    with pytest.raises(DataError, match="needs 1000001 at least"):
        CausalExamples(causal.train, length=1_000_000, batch=1)


def test_batches_are_made_faster_than_any_model_takes_them(corpus_of):
    corpus = corpus_of(sentences="next")
    examples = MaskedExamples(
        corpus.train, corpus.tokenizer, length=128, batch=32, objective=Objective(sentences="next")
    )
    plan = examples.plan(0, 0, generator(1, 0, 0))
    times = []
    for _ in range(40):
        start = time.perf_counter()
        examples.make(plan[0], generator(1))
        times.append(time.perf_counter() - start)
    assert min(times) < 0.004  # measured 0.5 ms; the wide margin is for busy machines


real = pytest.mark.skipif(
    "ATTN_TEST_DATA" not in os.environ, reason="ATTN_TEST_DATA names no folder of real text"
)


@real
def test_shakespeare_has_the_published_split(cache):
    data = TextData(
        source=str(Path(os.environ["ATTN_TEST_DATA"]) / "tinyshakespeare/input.txt"),
        documents="file", validation=0.1, cache=str(cache),
    )  # fmt: skip
    corpus = prepare(data, TextTokenizer(kind="char"), Objective(kind="clm"))
    assert (len(corpus.train), len(corpus.validation)) == (1_003_854, 111_540)
    assert corpus.tokenizer.vocabulary == 65 + 5


@real
def test_real_corpus(cache):
    data = TextData(source=str(Path(os.environ["ATTN_TEST_DATA"]) / "corpus"), limit=300, cache=str(cache))
    corpus = prepare(data, TextTokenizer(vocabulary=2000), Objective(sentences="next"))
    assert corpus.train.describe()["documents"] == 300
    batch = next(iter(epoch_of(masked(corpus, sentences="next"))))
    assert batch["tokens"].shape == (BATCH, LENGTH)
