import random

import pytest

from attncli.data.corpus import prepare
from attncli.recipe.pretrain import Objective, TextData, TextTokenizer


def make_text(documents: int, seed: int = 0, sentences: tuple[int, int] = (3, 40)) -> list[list[str]]:
    """Documents of made-up sentences; each sentence names its document and place."""
    rng = random.Random(seed)
    words = [
        "river",
        "stone",
        "cloud",
        "winter",
        "seldom",
        "under",
        "quick",
        "lantern",
        "of",
        "the",
        "and",
        "sings",
    ]
    return [
        [
            " ".join([f"Doc{d}", f"s{s}", *rng.choices(words, k=rng.randint(2, 18))]) + "."
            for s in range(rng.randint(*sentences))
        ]
        for d in range(documents)
    ]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for name, count, seed in (("train", 120, 0), ("validation", 12, 1)):
        text = "\n\n".join("\n".join(sentences) for sentences in make_text(count, seed))
        (folder / f"{name}.txt").write_text(text)
    return folder


@pytest.fixture(scope="session")
def corpus_of(text_folder, cache):
    """Corpus of the made-up text for an objective."""

    def make(tokenizer="wordpiece", **objective):
        size = 256 if tokenizer == "wordpiece" else 300
        tokenizer = TextTokenizer(kind=tokenizer, vocabulary=size)
        return prepare(TextData(source=str(text_folder), cache=str(cache)), tokenizer, Objective(**objective))

    return make


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, cache):
    monkeypatch.setenv("ATTN_CACHE", str(cache))
