"""Labelled texts, tagged words and questions: what is read, how it is cut, what is in a batch."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.data import labels as label_rules
from attncli.data.builtin_labelled import builtin_sets
from attncli.data.builtin_questions import builtin_questions
from attncli.data.faults import Faults
from attncli.data.labelled import evaluation_batches, prepare_labelled, training_batches
from attncli.data.question_windows import QuestionWindows
from attncli.data.questions import QuestionSet, best_answers, prepare_questions
from attncli.data.tagged import TagWindows, WordSet, prepare_tagged, restore, stretches
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.errors import DataError
from attncli.recipe.classify import WordTokenizer
from attncli.recipe.pretrain import TextTokenizer
from attncli.recipe.text import Documents, LabelledText, QuestionData, TaggedText


def labelled(path, **settings):
    return prepare_labelled(LabelledText(path=str(path), **settings), TextTokenizer())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\nfine film,good\nbad film,bad\nfine plot,good\nbad plot,bad\n"),
        (
            "a.csv",
            "\ufefflabel;Sentence\r\ngood;fine film\r\nbad;bad film\r\ngood;fine plot\r\nbad;bad plot\r\n",
        ),
        ("a.tsv", "text\tlabel\nfine film\tgood\nbad film\tbad\nfine plot\tgood\nbad plot\tbad\n"),
        (
            "a.jsonl",
            "".join(
                json.dumps({"review": text, "sentiment": label}) + "\n"
                for text, label in (
                    ("fine film", "good"),
                    ("bad film", "bad"),
                    ("fine plot", "good"),
                    ("bad plot", "bad"),
                )
            ),
        ),
    ],
)
def test_the_same_texts_from_every_kind_of_file(tmp_path, name, content):
    (tmp_path / name).write_text(content, newline="")
    sets = labelled(tmp_path / name, validation=0.25)
    assert sets.labels.names == ["bad", "good"]
    assert sets.labels.kind == "single"
    found = {*zip(sets.train.texts, sets.train.targets, strict=True)}
    found |= {*zip(sets.validation.texts, sets.validation.targets, strict=True)}
    assert found == {("fine film", 1), ("bad film", 0), ("fine plot", 1), ("bad plot", 0)}


def test_folders_of_labels_and_pairs(tmp_path):
    for part in ("train", "test"):
        for label in ("neg", "pos"):
            (tmp_path / part / label).mkdir(parents=True)
            for number in range(4):
                (tmp_path / part / label / f"{number}.txt").write_text(f"text {number} {label}\nmore")
    sets = labelled(tmp_path, validation=0.25)
    assert sets.labels.names == ["neg", "pos"]
    assert len(sets.tests[0]) == 8
    rows = "".join(f"one {n},other {n},{n % 2}\n" for n in range(8))
    (tmp_path / "pairs.csv").write_text(f"sentence1,sentence2,label\n{rows}")
    sets = labelled(tmp_path / "pairs.csv")
    assert sets.labels.pairs
    assert sets.train.pairs[0] == sets.train.texts[0].replace("one", "other")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "b"], "single"),
        ([1, 0, 1], "single"),
        ([True, False], "single"),
        (["0.5", "1.0", "2"], "regression"),
        ([0.1, 0.7], "regression"),
        ([["a"], ["a", "b"]], "multi"),
        (['["a"]', "[]"], "multi"),
    ],
)
def test_kinds_of_labels_are_told_apart(values, kind):
    assert label_rules.guess_kind(values) == kind


def test_labels_are_ordered_by_value_and_several_are_read():
    class Row:
        def __init__(self, label):
            self.label = label

    found = label_rules.find_labels(LabelledText(), [Row(n) for n in (10, 9, 1)], Faults())
    assert found.names == ["1", "9", "10"]
    for text in ("a|b", "a, b", '["a", "b"]', ["a", "b"]):
        assert label_rules.as_names(text) == ["a", "b"]
    many = label_rules.Labels("multi", ["a", "b", "c"])
    targets = label_rules.targets_of([(["c", "a"], "x:1"), ([], "x:2")], many, Faults(), "train")
    assert targets.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert many.written(targets[0]) == ["a", "c"]


def test_an_empty_text_is_refused_skipped_or_kept(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"",a\nx,a\ny,b\nz,b\n')
    with pytest.raises(DataError, match="empty"):
        labelled(tmp_path / "a.csv")
    counts = {how: labelled(tmp_path / "a.csv", empty=how) for how in ("skip", "keep")}
    assert {how: len(s.train) + len(s.validation) for how, s in counts.items()} == {"skip": 3, "keep": 4}


def test_an_epoch_has_every_text_once_and_resumes(tmp_path):
    sets = prepare_labelled(LabelledText(limit=100), TextTokenizer())
    stream = training_batches(sets.train, sets.tokenizer, batch=16, seed=3, max_length=24)
    seen, batches = [], []
    for number in range(7):
        (batch,) = stream.next([0], 1)
        batches.append(batch)
        seen += batch["index"].tolist()
        if number == 2:
            state = stream.state_dict()
    assert sorted(seen) == list(range(100))
    for batch in batches:
        assert batch["keep"].sum(1).max() == batch["tokens"].shape[1]  # no column is all padding
        assert (batch["tokens"][~batch["keep"]] == sets.tokenizer.pad_id).all()
    again = training_batches(sets.train, sets.tokenizer, batch=16, seed=3, max_length=24)
    again.load_state_dict(state)
    for batch in batches[3:]:
        (found,) = again.next([0], 1)
        assert found["index"].tolist() == batch["index"].tolist()


def test_documents_keep_both_ends():
    section = Documents(max_length=4, max_sentences=3, limit=50)
    sets = prepare_labelled(section, WordTokenizer(min_count=1))
    batches = evaluation_batches(sets.train, sets.tokenizer, batch=50, max_length=4, max_sentences=3)
    batch = batches[0]
    assert batch["tokens"].shape[1:] == (3, 4)
    assert batch["keep"].any(2).any(1).all()
    long = sets.train.texts[int(batch["index"][0])]
    sentences = sets.tokenizer.words(sets.tokenizer.sentences(long))
    last = sets.tokenizer.backend.id_to_token(int(batch["tokens"][0][2][batch["keep"][0][2]][-1]))
    assert last == sentences[-1][-1].lower()


@pytest.mark.parametrize("documents", [False, True])
def test_the_built_in_texts_need_order(documents):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    rows = builtin_sets(documents)
    words = TfidfVectorizer()
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(words.fit_transform([r.text for r in rows["train"]]), [r.label for r in rows["train"]])
    accuracy = model.score(words.transform([r.text for r in rows["test"]]), [r.label for r in rows["test"]])
    assert accuracy < 0.7
    assert not {r.text for r in rows["train"]} & {r.text for r in rows["test"]}


# Tokenisers


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_ids_are_those_of_transformers(tmp_path, family):
    transformers = pytest.importorskip("transformers")
    from attncli.data.tokenizers import train_tokenizer

    texts = ["the film was lovely and fresh", "we saw it, didn't we?", "Ünïcode — works 中文", "stale bread"]
    kind = "wordpiece" if family == "bert" else "bytebpe"
    EncoderTokenizer(train_tokenizer(TextTokenizer(kind=kind), texts * 3)).save(tmp_path)
    ours, theirs = EncoderTokenizer.load(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for pairs in (None, texts[::-1]):
        found = ours.encode(texts, pairs, max_length=9)
        wanted = theirs(texts, pairs, max_length=9, truncation=True)["input_ids"]
        assert [ids.tolist() for ids in found.ids] == wanted
        assert found.cut == sum(len(ids) > 9 for ids in theirs(texts, pairs)["input_ids"])


def test_words_and_frames(tmp_path):
    sets = prepare_tagged(TaggedText(limit=50), TextTokenizer())
    tokenizer = sets.tokenizer
    ((ids, words),) = tokenizer.encode_words([["Anna", "\u200b", "lives", "here"]])
    assert sorted(set(words.tolist())) == [0, 1, 2, 3]
    assert (np.diff(words) >= 0).all()
    row, segments, begins = tokenizer.around(ids, ids)
    assert len(row) == 2 * len(ids) + tokenizer.special(pair=True)
    assert row[begins : begins + len(ids)].tolist() == ids.tolist()
    assert segments[begins] == 1


# Tagging


@settings(max_examples=200)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=40), st.integers(4, 12))
def test_each_word_is_scored_once_where_it_sees_most(sizes, room):
    sizes = np.array(sizes)
    found = stretches(sizes, room)
    scored = [first + at for first, _, (low, high) in found for at in range(low, high)]
    assert scored == list(range(len(sizes)))
    for first, end, (low, high) in found:
        assert sizes[first:end].sum() <= room
        assert 0 <= low <= high <= end - first


@pytest.mark.parametrize("max_length", [8, 12, 64])
def test_tags_come_back_from_windows(max_length):
    sets = prepare_tagged(TaggedText(limit=60), TextTokenizer())
    windows = TagWindows(
        sets.train, sets.tokenizer, sets.labels, batch=8, max_length=max_length, shuffle=False
    )
    assert windows.lengths.max() <= max_length
    found = {}
    for number in range(len(windows.windows)):
        batch = windows.make(np.array([number]), np.random.default_rng(0))
        known = batch["labels"][0][batch["words_keep"][0]].clone()
        known[known == -100] = 0
        found[number] = known.tolist()
    assert restore(sets.train, windows, found, sets.labels) == sets.train.tags


def test_conll_as_published(tmp_path):
    (tmp_path / "a.txt").write_text(
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP I-ORG\nrejects VBZ B-VP O\nGerman JJ B-NP I-MISC\n\n"
        "Peter NNP B-NP I-PER\nBlackburn NNP I-NP I-PER\n\nHere RB O O\n"
    )
    sets = prepare_tagged(TaggedText(path=str(tmp_path / "a.txt"), validation=0.4), TextTokenizer())
    assert sets.labels.scheme == "iob1"
    words = sets.train.sentences + sets.validation.sentences
    assert sorted(map(len, words)) == [1, 2, 3]
    (tmp_path / "b.conllu").write_text(
        "# text = Dogs bark\n1\tDogs\tdog\tNOUN\t_\t_\t2\tnsubj\t_\t_\n"
        "2\tbark\tbark\tVERB\t_\t_\t0\troot\t_\t_\n\n"
        "# text = It\n1\tIt\tit\tPRON\t_\t_\t0\troot\t_\t_\n"
    )
    section = TaggedText(path=str(tmp_path / "b.conllu"), tokens="1", tags="3", validation=0.5)
    sets = prepare_tagged(section, TextTokenizer())
    assert sets.labels.names == ["NOUN", "PRON", "VERB"]
    assert sets.labels.scheme == "none"
    (tmp_path / "c.jsonl").write_text(
        "".join(json.dumps({"tokens": ["a", f"w{n}"], "ner_tags": ["O", "B-X"]}) + "\n" for n in range(10))
    )
    assert prepare_tagged(TaggedText(path=str(tmp_path / "c.jsonl")), TextTokenizer()).labels.scheme == "iob2"


def test_the_crf_is_told_what_the_scheme_allows():
    labels = prepare_tagged(TaggedText(limit=200, train_scheme="bioes"), TextTokenizer()).labels
    start, end, step = labels.allowed()
    place = {name: at for at, name in enumerate(labels.names)}
    assert not start[place["I-PER"]]
    assert not end[place["B-PER"]]
    assert step[place["B-PER"], place["E-PER"]]
    assert not step[place["B-PER"], place["E-LOC"]]


# Questions


@pytest.mark.parametrize("max_length", [32, 48, 128])
def test_perfect_logits_give_back_every_answer(max_length):
    section = QuestionData(limit=80, max_length=max_length, stride=6, max_question=10)
    sets = prepare_questions(section, TextTokenizer())
    questions = QuestionSet("train", sets.train.questions[:80])
    windows = QuestionWindows(
        questions.questions,
        sets.tokenizer,
        batch=4,
        shuffle=False,
        max_length=max_length,
        stride=6,
        max_question=10,
    )
    assert windows.lengths.max() <= max_length
    starts, ends = [], []
    for window in windows.windows:
        start, end = np.full(len(window.ids), -5.0), np.full(len(window.ids), -5.0)
        start[window.start], end[window.end] = 5.0, 5.0
        starts.append(start)
        ends.append(end)
    found = best_answers(questions, windows, starts, ends, max_answer=30, nbest=5)
    for one, ranked in zip(questions.questions, found, strict=True):
        best = ranked[0]
        assert one.context[best.start : best.end] == best.text
        if one.answers:
            assert best.text == one.answers[0][0]
            assert best.score == 10.0


def test_windows_cover_the_text_and_score_each_token_once():
    section = QuestionData(limit=20, max_length=40, stride=8, max_question=10)
    sets = prepare_questions(section, TextTokenizer())
    windows = QuestionWindows(
        sets.train.questions, sets.tokenizer, batch=4, shuffle=False, max_length=40, stride=8, max_question=10
    )
    scored: dict = {}
    for window in windows.windows:
        for (low, _), on in zip(window.offsets, window.scored, strict=True):
            scored[window.question, int(low)] = scored.get((window.question, int(low)), 0) + int(on)
    assert set(scored.values()) == {1}


def test_squad_of_both_versions_and_flat_records(tmp_path):
    context = "Zoë moved to İzmir in 1990."
    flat = {
        "id": "1",
        "context": context,
        "question": "Where?",
        "answers": {"text": ["İzmir"], "answer_start": [13]},
    }
    none = {"id": "2", "context": context, "question": "Why?", "answers": {"text": [], "answer_start": []}}
    lines = "".join(
        json.dumps({**one, "id": f"{one['id']}{n}", "context": f"{context}{n}"}) + "\n"
        for n in range(6)
        for one in (flat, none)
    )
    (tmp_path / "a.jsonl").write_text(lines)
    sets = prepare_questions(QuestionData(path=str(tmp_path / "a.jsonl")), TextTokenizer())
    assert sets.unanswerable
    assert len(sets.train) + len(sets.validation) == 12
    assert not {q.context for q in sets.train.questions} & {q.context for q in sets.validation.questions}
    with pytest.raises(DataError, match=r"data\.unanswerable=yes"):
        prepare_questions(QuestionData(path=str(tmp_path / "a.jsonl"), unanswerable="no"), TextTokenizer())


def test_entities_without_types(tmp_path):
    (tmp_path / "a.conll").write_text("deep B\nlearning I\nworks O\n\nmodels B\nlearn O\n\n" * 4)
    sets = prepare_tagged(TaggedText(path=str(tmp_path / "a.conll"), validation=0.3), TextTokenizer())
    assert (sets.labels.scheme, sets.labels.names) == ("iob2", ["O", "B", "I"])
    assert "entities without types in iob2" in sets.describe()
    assert all(sets.labels.tags(sets.labels.ids(tags)) == tags for tags in sets.train.tags)


@pytest.mark.parametrize("slip", ["Q-LOC", "LOC", "B"])
def test_a_slip_among_tags_is_named_with_its_line(tmp_path, slip):
    lines = ["Ann B-PER", "saw O", "Rome B-LOC", ""] * 20
    lines[14] = f"Rome {slip}"
    (tmp_path / "a.conll").write_text("\n".join(lines))
    with pytest.raises(DataError) as raised:
        prepare_tagged(TaggedText(path=str(tmp_path / "a.conll"), validation=0.3), TextTokenizer())
    assert f"tag '{slip}' is none of iob2" in str(raised.value)
    assert "a.conll:13" in str(raised.value)


def test_built_in_questions_are_answered_by_their_texts():
    for one in builtin_questions()["train"][:300]:
        for text, start in one.answers:
            assert one.context[start : start + len(text)] == text
    assert all(one.answers for one in builtin_questions(False)["train"])


def test_sentences_of_other_sets_are_compared_with_the_training_tags():
    sets = prepare_tagged(TaggedText(limit=50), TextTokenizer())
    assert isinstance(sets.validation, WordSet)
    assert len(sets.validation) == 300
