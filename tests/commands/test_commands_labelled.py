"""attn finetune, attn classify and what follows them, through the real entry."""

import io
import json
import os
import random
import sys
from pathlib import Path

import pytest

from attncli.cli import run as run_program
from attncli.recipe import catalogue

TINY = [
    "model.layers=1",
    "model.width=32",
    "model.intermediate=64",
    "model.attention.heads=2",
    "data.max_length=32",
]
GOOD, BAD = ("good", "fine", "lovely", "fresh"), ("bad", "poor", "dreadful", "stale")
WORDS = ("the", "film", "plot", "music", "is", "was", "and", "we", "saw", "it")


def write_texts(folder, **counts):
    """CSV files of texts whose label one word decides."""
    rng = random.Random(0)
    for part, count in counts.items():
        lines = ["text,label"]
        for number in range(count):
            words = [*rng.choices(WORDS, k=rng.randint(3, 9)), rng.choice((BAD, GOOD)[number % 2])]
            rng.shuffle(words)
            lines.append(f'"{" ".join(words)}",{("negative", "positive")[number % 2]}')
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_tags(folder, **counts):
    """CoNLL files: the word after "in" is a place, a name before "said" a person."""
    rng = random.Random(1)
    names = ("Kent", "Paris", "Jordan", "Austin", "Wells")
    for part, count in counts.items():
        lines = []
        for _ in range(count):
            person, place = rng.choice(names), rng.choice(names)
            rows = [
                (person, "B-PER"),
                ("said", "O"),
                ("it", "O"),
                ("rained", "O"),
                ("in", "O"),
                ("New", "B-LOC"),
            ]
            lines += [f"{word}\t{tag}" for word, tag in [*rows, (place, "I-LOC"), (".", "O")]] + [""]
        (folder / f"{part}.conll").write_text("\n".join(lines) + "\n")
    return folder


def write_questions(folder, **counts):
    """SQuAD files with a quarter of the questions unanswerable."""
    rng = random.Random(2)
    names, places = ("Anna", "Tom", "Ida", "Max"), ("Oslo", "Lima", "Riga", "Perth")
    for part, count in counts.items():
        paragraphs = []
        for number in range(count):
            name, place = rng.choice(names), rng.choice(places)
            context = f"In spring {name} moved to {place} and stayed ."
            none = number % 4 == 0
            answers = [] if none else [{"text": place, "answer_start": context.index(place)}]
            question = f"What does {name} eat ?" if none else f"Where did {name} move ?"
            one = {"id": f"{part}{number}", "question": question, "answers": answers, "is_impossible": none}
            paragraphs.append({"context": context, "qas": [one]})
        told = {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}
        (folder / f"{part}.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts"), train=160, validation=24, test=20)


@pytest.fixture(scope="module")
def tags(tmp_path_factory):
    return write_tags(tmp_path_factory.mktemp("tags"), train=120, dev=16, test=12)


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return write_questions(tmp_path_factory.mktemp("questions"), train=200, dev=24, test=16)


def _train(path, *arguments):
    assert run_program([*map(str, arguments), "train.precision=float32", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("runs") / "classifier"
    settings = ["train.fresh_epochs=8", "train.fresh_learning_rate=5e-3", "train.batch=16"]
    return _train(path, "finetune", "classify", "--data", texts, *TINY, *settings)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory, tags):
    path = tmp_path_factory.mktemp("runs") / "tagger"
    settings = ["train.fresh_epochs=8", "train.fresh_learning_rate=5e-3", "model.crf=true"]
    return _train(path, "finetune", "ner", "--data", tags, *TINY, *settings)


@pytest.fixture(scope="module")
def answerer(tmp_path_factory, questions):
    path = tmp_path_factory.mktemp("runs") / "answerer"
    settings = [
        "train.fresh_epochs=8",
        "train.fresh_learning_rate=5e-3",
        "data.max_question=8",
        "data.stride=8",
    ]
    return _train(path, "finetune", "qa", "--data", questions, *TINY, *settings)


@pytest.fixture(scope="module")
def han(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("runs") / "han"
    settings = ["train.epochs=8", "train.learning_rate=1e-2", "model.width=16", "model.embedding=16"]
    return _train(path, "classify", "han", "--data", texts, *settings)


@pytest.fixture(scope="module")
def bag(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("runs") / "bag"
    return _train(path, "classify", "bag_of_words", "--data", texts, "train.learning_rate=0.1")


def metrics(run):
    return json.loads((run / "result.json").read_text())["metrics"]


def test_recipes_are_counted():
    names = [entry.full for entry in catalogue.shipped() if entry.command in ("finetune", "classify")]
    wanted = ["classify/bag_of_words", "classify/han", "classify/transformer"]
    assert set(names) >= {*wanted, "finetune/classify", "finetune/ner", "finetune/qa"}


@pytest.mark.parametrize(
    "entry",
    [e for e in catalogue.shipped() if e.command in ("finetune", "classify") and e.full != "finetune/vit"],
    ids=lambda entry: entry.full,
)
def test_every_recipe_trains_two_steps_on_built_in_data(attn, entry):
    settings = ["data.path=builtin", "data.limit=200", "train.steps=2", "train.batch=8"]
    if "cifar10" in entry.name:
        settings.append("image.size=[32]")
    ran = attn(entry.command, entry.name, "--json", *settings)
    assert ran.code == 0, ran.err
    assert ran.json["metrics"]["loss"] > 0


def test_what_was_learnt_is_measured_on_the_test_part(classifier, tagger, answerer, han, bag):
    for run in (classifier, han, bag):
        assert metrics(run)["test.accuracy"] >= 0.9, run
    assert metrics(tagger)["test.f1"] >= 0.9
    assert metrics(answerer)["test.f1"] >= 0.7


def test_evaluate_repeats_the_result(attn, classifier, texts):
    ran = attn("evaluate", classifier, "--split", "test", "--json")
    assert ran.code == 0
    assert ran.json["metrics"]["accuracy"] == pytest.approx(metrics(classifier)["test.accuracy"])
    other = attn("evaluate", classifier, "--data", texts / "test.csv", "--json")
    assert other.json["metrics"] == ran.json["metrics"]


def test_classify_gives_probabilities_in_order(attn, classifier, monkeypatch):
    ran = attn("classify", classifier, "the film was lovely", "the plot was stale", "--json")
    rows = ran.json["results"]
    assert [row["predicted"] for row in rows] == ["positive", "negative"]
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)
    monkeypatch.setattr(sys, "stdin", io.StringIO("we saw it stale\nthe music was fine\n"))
    lines = attn("classify", classifier, "-").out.splitlines()
    assert [json.loads(line)["predicted"] for line in lines] == ["negative", "positive"]


def test_applying_does_not_depend_on_the_batch_a_text_is_in(attn, classifier, tmp_path):
    texts = [" ".join(random.Random(seed).choices(WORDS + GOOD, k=seed % 20 + 1)) for seed in range(90)]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    many = [json.loads(line) for line in attn("classify", classifier, "texts.txt").out.splitlines()]
    assert [row["text"] for row in many] == texts
    for at in (0, 17, 71):
        alone = attn("classify", classifier, texts[at], "--json").json["results"][0]
        for name, share in alone["probabilities"].items():
            assert share == pytest.approx(many[at]["probabilities"][name], abs=1e-5)


def test_tagging_and_answering_apply(attn, tagger, answerer):
    row = attn("classify", tagger, "Austin said it rained in New Kent.", "--json").json["results"][0]
    assert {entity["type"]: entity["text"] for entity in row["entities"]} == {
        "PER": "Austin",
        "LOC": "New Kent",
    }
    context = "In spring Tom moved to Riga and stayed ."
    ran = attn("finetune", answerer, "Where did Tom move ?", "--context", context, "--json")
    (row,) = ran.json["results"]
    best = row["answers"][0]
    assert best["text"] == "Riga" == context[best["start"] : best["end"]]


def test_questions_come_from_json_lines_too(attn, answerer, tmp_path):
    record = {"question": "Where did Ida move ?", "context": "In spring Ida moved to Oslo and stayed ."}
    (tmp_path / "asked.jsonl").write_text(json.dumps(record) + "\n")
    assert "Oslo" in json.loads(attn("finetune", answerer, "asked.jsonl").out)["answers"][0]["text"]


@pytest.mark.parametrize("name", ["classifier", "tagger", "han", "bag"])
def test_inspect_weighs_every_word(attn, request, name, tmp_path):
    run = request.getfixturevalue(name)
    ran = attn("inspect", run, "the film was lovely <b>", "--out", tmp_path / "seen.png", "--json")
    assert ran.code == 0, ran.err
    (told,) = ran.json["inputs"]
    for weights in told["weights"].values():
        assert "lovely" in "".join(text for line in weights for text, _ in line).replace("##", "")
    page = (tmp_path / "seen.html").read_text()
    assert "<b>" not in page
    assert "http" not in page.replace("http-equiv", "")
    if name in ("classifier", "tagger"):
        assert (tmp_path / "seen.png").stat().st_size > 1000
        assert "integrated gradients" in told["weights"]
    if name == "han":
        assert sum(told["sentences"]) == pytest.approx(1, abs=1e-4)


def test_inspect_shows_what_an_answer_rests_on(attn, answerer, classifier, tmp_path):
    context = "Ann moved to Riga in spring . Tom moved to Oslo in May ."
    ran = attn("inspect", answerer, "Where did Tom move ?", "--context", context, "--out", "a.png", "--json")
    assert ran.code == 0, ran.err
    (told,) = ran.json["inputs"]
    answer = attn("finetune", answerer, "Where did Tom move ?", "--context", context, "--json")
    (result,) = answer.json["results"]
    assert result["answers"][0]["text"] in told["predicted"]
    assert ("no answer" in told["predicted"]) == (result["answer"] == "")
    words = [text for line in told["weights"]["integrated gradients"] for text, _ in line]
    assert {"Tom", "Riga"} <= set(words)
    assert all(head["change"] >= 0 for head in told["heads"])
    assert "Riga" in (tmp_path / "a.html").read_text()
    ran = attn("inspect", answerer, "Where did Tom move ?")
    assert ran.code == 2
    assert "--context FILE" in ran.err
    ran = attn("inspect", classifier, "A film", "--context", "x")
    assert ran.code == 2


def test_labelled_runs_stand_side_by_side(attn, classifier, tagger, han, bag):
    for first, second in ((classifier, han), (classifier, tagger), (han, bag)):
        ran = attn("inspect", first, second, "the film was lovely", "--json")
        assert ran.code == 0, ran.err
        figures = ran.json["inputs"][0]["differences"][0]
        assert figures["rows"][0][0] == "tokens"
    heads = attn("inspect", classifier, "the film was lovely", "--json").json["inputs"][0]["heads"]
    assert all(head["change"] >= 0 for head in heads)


def test_the_word_that_decides_weighs_most(attn, classifier, han, bag):
    for run, method in (
        (classifier, "integrated gradients"),
        (han, "integrated gradients"),
        (bag, "what its words add to the output"),
    ):
        told = attn("inspect", run, "we saw the film and it was dreadful", "--json").json["inputs"][0]
        pieces = [pair for line in told["weights"][method] for pair in line if not pair[0].startswith("[")]
        words, weights = zip(*pieces, strict=True)
        best = words[max(range(len(words)), key=lambda at: weights[at])]
        assert best in "dreadful", (run, dict(pieces))


def test_pictures_and_predictions_are_in_the_run(classifier, tagger, answerer):
    for name in ("confusion-test.png", "calibration-test.png", "curves.png"):
        assert (classifier / name).stat().st_size > 1000
    rows = [json.loads(line) for line in (classifier / "predictions/test.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert {"text", "label", "predicted", "probabilities"} <= set(rows[0])
    assert (tagger / "predictions/test.conll").read_text().count("\n\n") == 12
    assert len(json.loads((answerer / "predictions/test.json").read_text())) == 16


def test_several_seeds_give_mean_and_deviation_and_go_on(attn, texts, tmp_path):
    command = [
        "classify",
        "bag_of_words",
        "--data",
        texts,
        "train.seeds=2",
        "train.epochs=1",
        "--out",
        "group",
    ]
    ran = attn(*command, "--json")
    assert ran.code == 0, ran.err
    each = ran.json["each"]["test.accuracy"]
    assert len(each) == 2
    assert ran.json["metrics"]["test.accuracy"] == pytest.approx(sum(each) / 2)
    again = attn(*command, "--json")
    assert "is finished" in again.err
    assert again.json["metrics"] == ran.json["metrics"]


def test_seeds_leave_nothing_of_the_test_sets_out(attn, texts):
    attn("classify", "bag_of_words", "--data", texts, "train.seeds=2", "train.epochs=1", "--out", "group")
    assert "test.accuracy" in json.loads(Path("group/seeds.json").read_text())["metrics"]


def test_requirements_become_exit_codes(attn, texts):
    command = ["classify", "bag_of_words", "--data", texts, "train.epochs=1"]
    assert attn(*command, "--require", "test.accuracy>=0.01").code == 0
    assert attn(*command, "--require", "test.accuracy>=1.01").code == 6
    ran = attn(*command, "--require", "test.acuracy>=1")
    assert ran.code == 2
    assert "accuracy" in ran.err


def test_a_run_of_ours_is_a_base(attn, texts, tmp_path):
    settings = ["train.steps=3", "train.batch=4", "tokenizer.vocabulary=400", "data.limit=60"]
    small = ["model.layers=2", "model.width=32", "model.intermediate=64", "model.attention.heads=2"]
    assert attn("pretrain", "bert", "--out", "base", "model.length=32", *small, *settings).code == 0
    command = [
        "finetune",
        "classify",
        "--from",
        "base",
        "--data",
        texts,
        "data.max_length=32",
        "train.epochs=1",
    ]
    ran = attn(*command, "--out", "tuned", "train.layer_decay=0.9", "model.freeze_layers=1")
    assert ran.code == 0
    assert "of them learn" in ran.err
    lora = attn(*command, "--out", "lora", "model.lora=4")
    assert lora.code == 0, lora.err
    assert attn("classify", "lora", "the film was fine", "--json").code == 0
    os.rename("base", "elsewhere")  # a run needs its base no more
    assert attn("evaluate", "tuned").code == 0
    wrong = attn(*command, "model.width=64")
    assert wrong.code == 2
    assert "comes from model.base" in wrong.err
    lost = attn(*command)
    assert lost.code == 4
    assert "model.base" in lost.err


def test_an_interrupted_run_goes_on_to_the_same_end(attn, texts):
    command = ["finetune", "classify", "--data", texts, *TINY, "train.fresh_epochs=2", "train.batch=16"]
    command += ["train.schedule.kind=constant", "train.schedule.warmup=0"]  # whatever the length
    attn(*command, "--out", "whole")
    attn(*command, "--out", "half", "train.steps=10")
    assert attn("resume", "half", "train.steps=20").code == 0
    assert metrics_of("half")["loss"] == metrics_of("whole")["loss"]


def metrics_of(path):
    return json.loads(Path(path, "result.json").read_text())["last"]


def test_pooling_and_rate_suit_the_base(tmp_path, texts, capfd):
    """A first token that no objective has taught is not read, and a narrow encoder takes larger steps."""
    for sentences, pooling in (("none", "mean"), ("next", "first")):
        base, run = tmp_path / f"base-{sentences}", tmp_path / f"run-{sentences}"
        words = ["model.layers=1", "model.width=32", "model.attention.heads=2", "data.limit=20"]
        steps = ["train.steps=1", "train.batch=2", "train.threads=1"]
        _train(base, "pretrain", "bert", *words, *steps, f"train.objective.sentences={sentences}")
        steps += ["train.schedule.kind=constant", "train.schedule.warmup=0"]
        _train(run, "finetune", "classify", "--from", base, "--data", texts, *steps)
        assert json.loads((run / "model.json").read_text())["pooling"] == pooling
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert max(row.get("learning_rate", 0) for row in rows) == pytest.approx(3e-4)


def test_exports_give_the_same_logits(attn, classifier, tmp_path):
    transformers = pytest.importorskip("transformers")
    import torch

    text = "the film was lovely and fresh"
    ours = attn("classify", classifier, text, "--json").json["results"][0]["probabilities"]
    assert attn("export", classifier, "--out", "hf").code == 0
    model = transformers.AutoModelForSequenceClassification.from_pretrained("hf").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained("hf")
    with torch.no_grad():
        shares = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist()
    assert [ours[model.config.id2label[at]] for at in range(2)] == pytest.approx(shares, abs=1e-5)


def test_what_no_library_has_is_not_exported(attn, han):
    ran = attn("export", han)
    assert ran.code == 2
    assert "no other library loads" in ran.err


# Bad input


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.csv", "sentence,emotion_id\nfine,1\n", ["data.label=COLUMN", "sentence"]),
        ("a.csv", "words,label\nfine,1\n", ["no column of texts", "data.text"]),
        ("a.csv", 'text,label\n"",good\nfine,bad\n', ["a.csv:2", "empty", "data.empty=skip"]),
        ("a.csv", "text,label\nfine,\nbad,x\n", ["a.csv:2", "no label"]),
        ("a.csv", "text,label\nfine,x,y\n", ["a.csv:2", "3 fields"]),
        ("a.csv", "text,label\nfine,x\ngood,x\nbad,x\n", ["one label only"]),
        ("a.jsonl", '{"text": 3.5, "label": [}\n', ["a.jsonl:1", "not JSON"]),
        ("a.jsonl", '{"text": {"a": 1}, "label": "x"}\n', ["a.jsonl:1", "not text"]),
        ("a.txt", "just a line\n", ["without labels", ".csv"]),
    ],
)
def test_bad_texts_are_told_with_their_place(attn, tmp_path, name, content, wanted):
    path = write(tmp_path / name, content)
    ran = attn("finetune", "classify", "--data", path, *TINY)
    assert ran.code == 3, ran.err
    assert all(part in ran.err for part in wanted), ran.err


def test_labels_unseen_in_training_are_refused(attn, tmp_path):
    write_texts(tmp_path, train=20, validation=6)
    with (tmp_path / "validation.csv").open("a") as file:
        file.write("a film,neutral\n")
    ran = attn("finetune", "classify", "--data", tmp_path, *TINY)
    assert ran.code == 3
    assert "'neutral'" in ran.err
    assert "validation.csv:8" in ran.err


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("Anna B-PER\nsaid\n", ["a.conll:2", "1 columns"]),
        ("Anna\tB-PER\nran\tO\n\nTom\tX-PER\n", ["'X-PER'"]),
        ("Anna\nran\n", ["a.conll:1", "one column"]),
    ],
)
def test_bad_tags_are_told_with_their_place(attn, tmp_path, content, wanted):
    path = write(tmp_path / "a.conll", content)
    ran = attn("finetune", "ner", "--data", path, *TINY, "data.scheme=iob2")
    assert ran.code == 3, ran.err
    assert all(part in ran.err for part in wanted), ran.err


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda one: one["answers"][0].update(answer_start=2), ["train1", "it stands at"]),
        (lambda one: one.update(question=""), ["train1", "question is empty"]),
        (lambda one: one.update(id="train2"), ["train2", "comes twice"]),
        (lambda one: one.pop("answers"), ["train1", "answers"]),
    ],
)
def test_bad_questions_are_told_with_their_place(attn, tmp_path, change, wanted):
    write_questions(tmp_path, train=8)
    told = json.loads((tmp_path / "train.json").read_text())
    change(told["data"][0]["paragraphs"][1]["qas"][0])
    (tmp_path / "train.json").write_text(json.dumps(told))
    ran = attn("finetune", "qa", "--data", tmp_path, *TINY, "data.max_question=8", "data.stride=8")
    assert ran.code == 3, ran.err
    assert all(part in ran.err for part in wanted), ran.err


def test_a_pickle_is_refused_with_the_way_out(attn, texts, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert", "vocab_size": 30}')
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    ran = attn("finetune", "classify", "--from", folder, "--data", texts)
    assert ran.code == 4, ran.err


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["RUN", "x.jsonl"], ["no field"]),
        (["RUN", "--context", "x", "a text"], ["--context"]),
        (["RUN", "--data", "x", "a text"], ["--data"]),
    ],
)
def test_mistakes_in_applying(attn, classifier, tmp_path, arguments, wanted):
    (tmp_path / "x.jsonl").write_text('{"txt": "a"}\n')
    command = "finetune" if "--context" in arguments else "classify"
    ran = attn(command, *[classifier if text == "RUN" else text for text in arguments])
    assert ran.code in (2, 3)
    assert all(part in ran.err for part in wanted), ran.err
