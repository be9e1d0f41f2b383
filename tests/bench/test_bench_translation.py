"""Search and training steps of translation: honest arithmetic, equal peers, and the commands at toy size."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from attncli.bench import decode, translate
from attncli.bench.decode import FixedLength, SpecialIds, Work, random_lengths, random_sources
from attncli.bench.remote import Remote, start_peers
from attncli.bench.timing import Timing
from attncli.cli import run as run_program
from attncli.decoding import SearchSettings
from attncli.models.translation import build_translation, resolve_translation
from attncli.recipe.loading import load_recipe
from attncli.recipe.translate import Search, TransformerModel
from attncli.tasks.translator import Translator

IDS = SpecialIds()
SMALL = ["model.encoder_layers=1", "model.decoder_layers=1", "model.width=16", "tokenizer.vocabulary=60"]
ONCE = ["evaluate.rounds=1", "evaluate.warmup=0", "train.threads=1"]
HAVE = {
    name: importlib.util.find_spec(name) is not None for name in ("transformers", "ctranslate2", "joeynmt")
}


def test_random_lengths_keep_range_and_mean():
    recipe = load_recipe("bench", "decode", []).recipe
    found = random_lengths(recipe.data, 20_000, np.random.default_rng(0))
    assert found.min() == 5
    assert 22 < found.max() <= 25
    assert found.mean() == pytest.approx(13, abs=0.1)
    sources = random_sources(recipe.data, 50, 60, seed=1)
    assert sources == random_sources(recipe.data, 50, 60, seed=1)
    assert all(row[-1] == IDS.eos_id and IDS.eos_id not in row[:-1] for row in sources)
    assert all(IDS.unk_id < token < 60 for row in sources for token in row[:-1])


def test_tokens_count_the_end_and_fixed_lengths_count_as_fixed():
    found = [[7, 8], [9]]
    free = Work([[5, 2], [6, 2]], SearchSettings(), 64, 100)
    assert free.tokens(found) == 5
    assert free.limits() == [14, 14]
    fixed = Work(free.sources, FixedLength(min_length=9), 64, 100)
    assert fixed.tokens(found) == 20
    assert fixed.limits() == [10, 10]


def test_decode_table_divides_by_the_right_thing():
    work = Work([[5, 2]] * 30, FixedLength(min_length=9), 64, 100)
    timed = {("attn", "float32"): Timing.of([0.5]), ("peer", "int8"): Timing.of([2.0])}
    found = dict.fromkeys(timed, [[7]] * 30)
    ours, peer = decode.table(work, timed, found, {("peer", "int8"): 40.5})
    assert (ours["sentences_per_second"], ours["tokens_per_second"], ours["bleu"]) == (60, 600, None)
    assert (peer["attn_times_as_fast"], peer["bleu"]) == (4.0, 40.5)


def test_translate_table_compares_tokens_and_not_seconds():
    timed = {("attn", "float32"): Timing.of([0.5]), ("joeynmt", "float32"): Timing.of([1.0])}
    ours, peer = translate.table(timed, {("attn", "float32"): 1000, ("joeynmt", "float32"): 500})
    assert (ours["tokens_per_second"], peer["tokens_per_second"]) == (2000, 500)
    assert peer["attn_times_as_fast"] == 4.0


def test_batches_are_those_of_training():
    recipe = load_recipe("bench", "translate", ["data.pairs=3000", "train.batch=1024"]).recipe
    batches = translate.training_batches(recipe)
    widths = [batch["tokens"].shape[1] for batch in batches]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]
    for batch in batches:
        size = len(batch["tokens"]) * max(batch["source"].shape[1], batch["tokens"].shape[1])
        assert 0.8 * 1024 < size <= 1024
        assert len(batch["labels"]) > 0.9 * batch["tokens"].numel()  # sorted: hardly any padding
    mixed = translate.mixed_batches(recipe)
    assert len(mixed) == 3
    assert translate.target_tokens(mixed) < 0.8 * translate.target_tokens(batches)  # unsorted: much of it


def _square(number):
    return lambda: number * number


def _broken(_):
    raise ValueError("no such thing")


def test_a_peer_gives_its_result_and_one_that_fails_is_named():
    said = []
    builds = {("good", "float32"): (_square, 7), ("bad", "int8"): (_broken, 1)}
    peers = start_peers(builds, said.append, device="cpu", threads=1)
    assert list(peers) == [("good", "float32")]
    peer = peers["good", "float32"]
    assert isinstance(peer, Remote)
    assert peer() > 0
    assert peer.result() == 49
    peer.close()
    assert said == ["no bad (int8) beside ours: ValueError: no such thing"]


def _count_on(word):
    """Numbers from ``word`` to the next that ends a group of six."""
    return list(range(word, word + 6 - word % 6))


@pytest.fixture(scope="module")
def counter():
    """A model that has learnt to count on from the word that its source repeats."""
    torch.manual_seed(0)
    section = TransformerModel(encoder_layers=1, decoder_layers=1, width=32, dropout=0.0, length=40)
    model = build_translation(resolve_translation(section, source_vocabulary=24, target_vocabulary=24))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [_count_on(word) for word in range(4, 24)]
    tokens = torch.zeros(20, 8, dtype=torch.long)
    labels = torch.full((20, 8), -100)
    for at, row in enumerate(rows):
        tokens[at, : len(row) + 1] = torch.tensor([IDS.bos_id, *row])
        labels[at, : len(row) + 1] = torch.tensor([*row, IDS.eos_id])
    for step in range(80):
        words = torch.arange(4, 24)[:, None].expand(20, 1 + step % 4)
        source = torch.cat([words, torch.full((20, 1), IDS.eos_id)], 1)
        logits = model(source, tokens)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def _sources():
    return [[word] * (1 + at % 4) + [IDS.eos_id] for at, word in enumerate([*range(4, 24)])]


def _ours(model, settings, batch=8):
    translator = Translator(model, IDS, Search(beam=settings.beam, batch=batch))
    translator.settings = settings
    work = Work(_sources(), settings, batch, translator.longest)
    return work, [best.tokens for best, *_ in translator.translate_encoded(work.sources)]


@pytest.mark.parametrize("beam", [1, 4])
def test_peers_translate_as_we_do(counter, beam, tmp_path):
    work, ours = _ours(counter, SearchSettings(beam=beam))
    assert len({len(row) for row in ours}) > 2
    right = sum(found == _count_on(source[0]) for found, source in zip(ours, work.sources, strict=True))
    assert right > 15  # it has learnt something, so that equal translations say something
    if HAVE["transformers"]:
        decode._write_marian(counter, tmp_path / "marian", work, "cpu")
        assert decode.transformers_search(str(tmp_path / "marian"), work, "cpu")() == ours
    if HAVE["ctranslate2"]:
        decode._write_ctranslate2(counter, tmp_path / "ctranslate2", work, "cpu")
        found = {
            kind: decode.ctranslate2_search(str(tmp_path / "ctranslate2"), work, "cpu", kind)()
            for kind in ("float32", "int8")
        }
        assert found["float32"] == ours
        assert sum(a == b for a, b in zip(found["int8"], ours, strict=True)) > 15


def test_all_systems_write_as_much_at_a_fixed_length(counter, tmp_path):
    work, ours = _ours(counter, FixedLength(beam=3, min_length=7))
    assert {len(row) for row in ours} == {7}
    if HAVE["transformers"]:
        decode._write_marian(counter, tmp_path / "marian", work, "cpu")
        found = decode.transformers_search(str(tmp_path / "marian"), work, "cpu")()
        assert {len(row) for row in found} <= {7, 8}  # the eighth token is the end or any other
    if HAVE["ctranslate2"]:
        decode._write_ctranslate2(counter, tmp_path / "ctranslate2", work, "cpu")
        found = decode.ctranslate2_search(str(tmp_path / "ctranslate2"), work, "cpu", "float32")()
        assert {len(row) for row in found} <= {7, 8}


def test_joeynmt_reads_our_batches():
    if not HAVE["joeynmt"]:
        pytest.skip("joeynmt is not installed")
    recipe = load_recipe("bench", "translate", [*SMALL, "data.pairs=200", "train.batch=200"]).recipe
    assert translate.joeynmt_steps(recipe, "cpu", False)() == translate.target_tokens(
        translate.training_batches(recipe)
    )


def test_a_whole_target_has_beginning_and_end():
    recipe = load_recipe("bench", "translate", [*SMALL, "data.pairs=200", "train.batch=200"]).recipe
    batch = translate.training_batches(recipe)[0]
    for row, tokens in zip(translate._whole(batch).tolist(), batch["tokens"].tolist(), strict=True):
        bare = [token for token in row if token != IDS.pad_id]
        assert bare == [token for token in tokens if token != IDS.pad_id] + [IDS.eos_id]


def test_bench_decode_command(capfd, tmp_path):
    settings = [*SMALL, *ONCE, "data.sentences=6", "data.output=4", "evaluate.search.beam=2"]
    assert run_program(["bench", "decode", *settings, "--json", "--out", str(tmp_path / "rows.json")]) == 0
    captured = capfd.readouterr()
    report = json.loads(captured.out)
    cases = {(row["case"], row["precision"]) for row in report["rows"]}
    wanted = {("attn", "float32")}
    if HAVE["transformers"]:
        wanted.add(("transformers", "float32"))
    if HAVE["ctranslate2"]:
        wanted |= {("ctranslate2", "float32"), ("ctranslate2", "int8")}
    assert cases == wanted
    assert all(
        row["tokens_per_second"] / row["sentences_per_second"] == pytest.approx(4) for row in report["rows"]
    )
    assert json.loads((tmp_path / "rows.json").read_text()) == report
    assert run_program(["bench", "decode", *settings, "evaluate.peers=false"]) == 0
    captured = capfd.readouterr()
    assert "sentences/s" in captured.out
    assert "transformers" not in captured.out


def test_bench_decode_of_a_run_shows_bleu(capfd, tmp_path):
    parts = tmp_path / "text"
    parts.mkdir()
    rng = np.random.default_rng(0)
    words = [f"word{letter}" for letter in "abcdefgh"]
    for part, count in (("train", 120), ("val", 8), ("test_small", 8)):
        lines = [" ".join(rng.choice(words, 4)) for _ in range(count)]
        for language in ("en", "de"):
            (parts / f"{part}.{language}").write_text("\n".join(lines) + "\n")
    run = tmp_path / "run"
    toy = ["train.steps=2", "train.batch=256", "tokenizer.vocabulary=300", "evaluate.bootstrap=0", *SMALL[:3]]
    train = ["translate", "transformer", *toy, "--data", str(parts), "--out", str(run)]
    assert run_program(train) == 0
    capfd.readouterr()
    settings = [f"data.run={run}", "data.sentences=4", "evaluate.peers=false", *ONCE]
    assert run_program(["bench", "decode", *settings, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["sentences"] == 4
    assert 0 <= report["rows"][0]["bleu"] <= 100
    assert run_program(["bench", "decode", *settings, "data.test=test_smal"]) == 2
    assert "did you mean test_small" in capfd.readouterr().err


def test_bench_translate_command(capfd):
    settings = [*SMALL, *ONCE, "data.pairs=100", "data.batches=1", "train.batch=128"]
    assert run_program(["bench", "translate", *settings, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    cases = {row["case"] for row in report["rows"]}
    wanted = {"attn"}
    if HAVE["transformers"]:
        wanted.add("transformers")
    if HAVE["joeynmt"]:
        wanted |= {"joeynmt", "joeynmt, our batches"}
    assert cases == wanted
    tokens = {row["case"]: row["target_tokens"] for row in report["rows"]}
    assert len({count for case, count in tokens.items() if case != "joeynmt"}) == 1


def test_a_model_that_peers_do_not_have_runs_alone():
    said = []
    recipe = load_recipe("bench", "translate", [*SMALL, "model.norm=pre"]).recipe
    assert translate.peer_steps(recipe, torch.device("cpu"), "float32", said.append) == {}
    assert "model.norm=pre" in said[0]


def test_mistakes_in_lengths(capfd):
    assert run_program(["bench", "decode", "data.mean=40"]) == 2
    assert "data.mean" in capfd.readouterr().err
    assert run_program(["bench", "translate", "model.length=20"]) == 2
    assert "data.longest" in capfd.readouterr().err
