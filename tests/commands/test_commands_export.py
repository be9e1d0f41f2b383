"""attn export through the real entry: the same numbers and translations from the libraries that load it."""

import json
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands_support import QUICK, write_text

from attncli.cli import run as run_program
from attncli.commands import export_translation
from attncli.commands.trained import load_task, open_run

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

WORDS = ["the", "cat", "dog", "sees", "a", "bird", "and", "runs", "home", "never", "again"]
TRANSFORMER = [
    "model.width=32",
    "model.attention.heads=2",
    "model.encoder_layers=1",
    "model.decoder_layers=2",
    "model.dropout=0",
]
TRAIN = [
    "tokenizer.vocabulary=400",
    "train.batch=256",
    "train.evaluate_every=0",
    "train.average=none",
    "evaluate.limit=4",
    "evaluate.bootstrap=0",
]
FEW = ["train.steps=2", "evaluate.search.max_length=0.1"]
PRETRAIN = {
    "bert": [],
    "bert-relu": ["model.activation=relu", "train.objective.sentences=none"],
    "roberta": [],
    "roberta-next": ["train.objective.sentences=next", "train.objective.packing=segments"],
    "albert": ["model.embedding_width=16"],
    "gpt": [],
    "modernbert": ["model.layers=4", "model.local_window=3"],
    "modernbert-swiglu": ["model.activation=swiglu", "model.bias=true", "model.local_window=0"],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("corpus") / "text.txt")


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Train a translation model on sentences and their copies in capitals."""
    data, runs = tmp_path_factory.mktemp("pairs"), tmp_path_factory.mktemp("runs")
    rng = random.Random(0)
    for part, count in (("train", 400), ("val", 8)):
        lines = [" ".join(rng.choices(WORDS, k=rng.randint(1, 6))) for _ in range(count)]
        (data / f"{part}.en").write_text("\n".join(lines) + "\n")
        (data / f"{part}.de").write_text("\n".join(line.upper() for line in lines) + "\n")

    def call(name, recipe, *settings):
        arguments = ["translate", recipe, "--data", data, "--out", runs / name, *TRAIN, *settings]
        assert run_program([str(a) for a in arguments]) == 0
        return runs / name

    return call


@pytest.fixture(scope="module")
def translation(train):
    """A run that has learnt enough that its translations end."""
    return train("copy", "transformer", *TRANSFORMER, "train.steps=120")


def opened(run):
    task, _ = load_task(*open_run("export", run), data=False)
    return task


def sentences():
    rng = random.Random(7)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 8))) for _ in range(30)]
    return [*texts, "Größe </s> x, y!", "日本 cat ?"]


def test_transformers_translates_as_we_do(attn, translation):
    transformers = pytest.importorskip("transformers")
    ran = attn("export", translation, "--format", "hf", "--json", "--out", "made")
    assert ran.code == 0, ran.err
    assert ran.json["format"] == "hf"
    assert ran.json["files"]["model.safetensors"] > 10_000
    tokenizer = transformers.AutoTokenizer.from_pretrained("made")
    model = transformers.MarianMTModel.from_pretrained("made").eval()
    task, texts = opened(translation), sentences()
    translator = task.translator(final=True)

    batch = tokenizer(texts, return_tensors="pt", padding=True)
    ids = translator.encode(texts)
    real = batch.attention_mask.bool()
    assert [row[keep].tolist() for row, keep in zip(batch.input_ids, real, strict=True)] == ids
    assert (tokenizer.pad_token, tokenizer.bos_token) == ("<pad>", "<s>")
    assert (tokenizer.eos_token, tokenizer.unk_token) == ("</s>", "<unk>")

    tokens = torch.randint(4, 100, (len(texts), 5), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = task.model(batch.input_ids, tokens, real)
        theirs = model(**batch, decoder_input_ids=tokens).logits
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)

    found = translator.translate(texts)
    made = model.generate(**batch, return_dict_in_generate=True, output_scores=True)
    assert tokenizer.batch_decode(made.sequences, skip_special_tokens=True) == [t.text for t, *_ in found]
    scores = torch.tensor([best.score for best, *_ in found])
    torch.testing.assert_close(made.sequences_scores, scores, atol=1e-4, rtol=0)


def test_ctranslate2_translates_as_we_do(attn, translation):
    ctranslate2 = pytest.importorskip("ctranslate2")
    from tokenizers import Tokenizer

    ran = attn("export", translation, "--format", "ctranslate2", "--out", "made")
    assert ran.code == 0, ran.err
    assert "model.bin" in ran.out
    assert 'next: python -c "import ctranslate2' in ran.err
    assert "beam_size=5, length_penalty=1.0, min_decoding_length=0" in ran.err
    tokenizer = Tokenizer.from_file("made/tokenizer.json")
    peer = ctranslate2.Translator("made", compute_type="float32", intra_threads=1)
    texts = sentences()[:-2]
    found = opened(translation).translator(final=True).translate(texts, count=3)
    made = peer.translate_batch(
        [tokenizer.encode(text).tokens for text in texts],
        beam_size=5,
        length_penalty=1.0,
        min_decoding_length=0,
        num_hypotheses=3,
        return_scores=True,
    )
    same = 0
    for ours, theirs in zip(found, made, strict=True):
        text = tokenizer.decode([tokenizer.token_to_id(piece) for piece in theirs.hypotheses[0]])
        same += text == ours[0].text
        assert theirs.scores == pytest.approx([one.score for one in ours], abs=1e-3)
    assert same == len(texts)


@pytest.mark.parametrize("format", ["hf", "ctranslate2"])
def test_the_next_command_translates(attn, translation, format):
    pytest.importorskip({"hf": "transformers"}.get(format, format))
    ran = attn("export", translation, "--format", format, "--out", "it's", "--json")
    assert ran.code == 0, ran.err
    program, option, code = shlex.split(ran.json["next"])
    assert (program, option) == ("python", "-c")
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    best = opened(translation).translator(final=True).translate(["A sentence."])[0][0]
    assert best.text in shown.stdout


def test_two_vocabularies_go_to_ctranslate2_only(attn, train):
    apart = ["tokenizer.joint=false", "model.tie_embeddings=decoder", "model.norm=pre"]
    run = train("apart", "transformer", *TRANSFORMER, *apart, *FEW)
    ran = attn("export", run, "--format", "hf")
    assert ran.code == 2
    assert "model.norm=pre" in ran.err
    assert "tokenizer.joint=false" in ran.err
    assert f"next: attn export {run} --format ctranslate2" in ran.err
    assert not (run / "hf").exists()
    pytest.importorskip("ctranslate2")
    ran = attn("export", run, "--format", "ctranslate2", "--json")
    assert ran.code == 0, ran.err
    names = {"source.json", "target.json", "source_vocabulary.json", "target_vocabulary.json"}
    assert names <= set(ran.json["files"])
    assert sorted(ran.json["files"]) == sorted(path.name for path in (run / "ctranslate2").iterdir())


def test_a_recurrent_model_is_refused_with_its_reason(attn, train):
    run = train("recurrent", "seq2seq", "model.embedding=32", "model.width=32", *FEW)
    for format in ("hf", "ctranslate2"):
        if format == "ctranslate2":
            pytest.importorskip("ctranslate2")
        ran = attn("export", run, "--format", format)
        assert ran.code == 2
        assert "recurrent" in ran.err
        assert "next: attn translate" in ran.err
        assert not (run / format).exists()


@pytest.mark.parametrize("name", list(PRETRAIN))
def test_language_models_reload_to_the_same_logits(attn, corpus, name):
    transformers = pytest.importorskip("transformers")
    settings = [s for s in QUICK if "layers" not in s or "model.layers=4" not in PRETRAIN[name]]
    recipe = name.partition("-")[0]
    ran = attn("pretrain", recipe, "--data", corpus, "--out", "run", *settings, *PRETRAIN[name])
    assert ran.code == 0, ran.err
    ran = attn("export", "run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["folder"] == "run/hf"
    task = opened("run")
    kind = json.loads(Path("run/hf/config.json").read_text())["architectures"][0]
    peer = getattr(transformers, kind).from_pretrained("run/hf").eval()
    with torch.no_grad():
        tokens = torch.randint(5, task.config.vocabulary, (3, 20), generator=torch.Generator().manual_seed(1))
        ours, theirs = task.model(tokens), peer(tokens)
    if task.causal:
        torch.testing.assert_close(theirs.logits, ours, atol=1e-5, rtol=0)
    else:
        logits = theirs.prediction_logits if "PreTraining" in kind else theirs.logits
        torch.testing.assert_close(logits, ours.logits, atol=1e-5, rtol=0)
    if name in ("bert", "roberta-next"):
        assert kind == "BertForPreTraining"
        torch.testing.assert_close(theirs.seq_relationship_logits, ours.pair, atol=1e-5, rtol=0)
    if name == "bert-relu":
        assert kind == "RobertaForMaskedLM"  # a head of its own activation
    if name == "albert":
        torch.testing.assert_close(theirs.sop_logits, ours.pair, atol=1e-5, rtol=0)

    tokenizer = transformers.AutoTokenizer.from_pretrained("run/hf")
    text = "The cat sees a bird."
    ids = task.tokenizer.encode(text)
    around = ids if task.causal else [task.tokenizer.cls_id, *ids, task.tokenizer.sep_id]
    assert tokenizer(text)["input_ids"] == around

    from attncli.models import load_huggingface

    if "swiglu" not in name:
        with torch.no_grad():
            again = load_huggingface("run/hf").eval()(tokens)
        again, mine = (again, ours) if task.causal else (again.logits, ours.logits)
        torch.testing.assert_close(again, mine, atol=1e-5, rtol=0)


def test_a_language_model_that_transformers_lacks_is_refused(attn, corpus):
    odd = ["model.attention.mechanism=cosine", "model.norm=pre", "model.attention.position=alibi"]
    assert attn("pretrain", "bert", "--data", corpus, "--out", "run", *QUICK, *odd).code == 0
    ran = attn("export", "run")
    assert ran.code == 2
    for part in ("model.attention.mechanism=cosine", "model.norm=pre", "model.attention.position=alibi"):
        assert f"BERT has no {part}" in ran.err
    assert "next: attn pretrain run" in ran.err
    assert not Path("run/hf").exists()
    ran = attn("export", "run", "--format", "ctranslate2")
    assert ran.code == 2
    assert "can be exported as hf" in ran.err


def test_nothing_is_written_over(attn, translation, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    ran = attn("export", translation, "--out", "full")
    assert ran.code == 2
    assert "full exists and is not an empty folder" in ran.err
    assert "--out full-2" in ran.err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    ran = attn("export", translation, "--out", "file")
    assert ran.code == 2
    assert "file is a file" in ran.err
    assert attn("export", translation, "--out", "empty").code == 0
    assert (tmp_path / "empty" / "config.json").exists()


def test_what_fails_half_way_leaves_nothing(attn, translation, tmp_path, monkeypatch):
    def full(task, folder):
        (folder / "begun").write_text("half")
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setitem(export_translation.WRITERS, "hf", (full, None))
    ran = attn("export", translation, "--out", "made")
    assert ran.code == 5
    assert "disk is full" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_next_command(attn, translation, monkeypatch):
    ran = attn("export", translation, "--format", "ctranslate")
    assert ran.code == 2
    assert f"next: attn export {translation} --format ctranslate2" in ran.err
    ran = attn("export", "nowhere")
    assert ran.code == 4
    assert "there is no folder nowhere" in ran.err
    monkeypatch.setattr(export_translation, "find_spec", lambda name: None)
    ran = attn("export", translation, "--format", "ctranslate2", "--out", "made")
    assert ran.code == 2
    assert "next: pip install ctranslate2" in ran.err
