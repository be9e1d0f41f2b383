"""Every task on a GPU: trained, measured, resumed, applied and looked into, with nothing left on the CPU.

Where there is no GPU a pretended one keeps its rules.
"""

import pytest
import torch
from commands_support import QUICK, write_text
from test_commands_detect import QUERIES, REGIONS, small_voc
from test_commands_detect import QUICK as FEW
from test_commands_images import SMALL, write_pictures
from test_commands_labelled import TINY, write_questions, write_tags, write_texts
from test_commands_segment import write_scenes
from test_commands_translate import TINY as NARROW
from test_commands_translate import write_pairs

from attncli.attention import MECHANISMS
from attncli.bench import rates

BRIEF = ["train.steps=2", "train.batch=4", "train.log_every=1"]
SCENES = ["model.width=8", "model.levels=3", "model.widest=16", "image.size=[32,32]"]
PAIRS = ["tokenizer.vocabulary=400", "train.batch=256", "train.steps=2", "evaluate.bootstrap=20"]
SEARCH = ["evaluate.search.beam=2", "evaluate.search.shortlist=20"]
# The command that trains, its data, and what a run is given then.
CASES = {
    "bert": (["pretrain", "bert", *QUICK], "text", ["the [MASK] runs"]),
    "gpt": (["pretrain", "gpt", *QUICK], "text", ["the cat"]),
    "texts": (
        ["finetune", "classify", *TINY, *BRIEF, "train.class_weights=balanced"], "texts", ["a good film"],
    ),
    "tags": (["finetune", "ner", *TINY, *BRIEF], "tags", ["in Kent"]),
    "crf": (["finetune", "ner", *TINY, *BRIEF, "model.crf=true"], "tags", ["in Kent"]),
    "questions": (
        ["finetune", "qa", *TINY, *BRIEF, "data.max_question=8", "data.stride=8"], "questions",
        ["Where ?", "--context", "Tom moved to Oslo ."],
    ),
    "han": (["classify", "han", *BRIEF, "model.width=16", "model.embedding=16"], "texts", ["a good film"]),
    "vit": (["classify", "vit", *SMALL, *BRIEF], "pictures", ["pictures/test/red/2.png"]),
    "unet": (
        ["segment", "unet", *SCENES, *BRIEF, "train.loss.class_weights=balanced"], "scenes",
        ["scenes/test/images/000.png"],
    ),
    "faster_rcnn": (
        ["detect", "faster_rcnn", *FEW, *REGIONS, "model.regions.relation=1", "model.attention.heads=4"],
        "boxes", ["boxes/JPEGImages/p0.png"],
    ),
    "detr": (["detect", "detr", *FEW, *QUERIES], "boxes", ["boxes/JPEGImages/p0.png"]),
    "transformer": (
        ["translate", "transformer", *NARROW["transformer"], *PAIRS, *SEARCH], "pairs", ["the cat runs"],
    ),
    "seq2seq": (["translate", "seq2seq", *NARROW["seq2seq"], *PAIRS, *SEARCH], "pairs", ["the cat runs"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("texts", "tags", "questions", "pictures", "scenes", "boxes", "pairs"):
        (root / name).mkdir()
    write_text(root / "text")
    write_texts(root / "texts", train=16, validation=4, test=4)
    write_tags(root / "tags", train=16, dev=4, test=4)
    write_questions(root / "questions", train=16, dev=4, test=4)
    write_pictures(root / "pictures", train=12, validation=6, test=6)
    write_scenes(root / "scenes", train=8, val=2, test=2)
    small_voc(root / "boxes")
    write_pairs(root / "pairs", train=60, val=4, test=4)
    return root


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("case", CASES)
def test_a_task_from_training_to_use(attn, data, monkeypatch, tmp_path, case):
    train, kind, inputs = CASES[case]
    monkeypatch.chdir(data)
    run = tmp_path / "run"
    ran = attn(*train, "train.device=cuda", "--data", kind, "--out", run)
    assert ran.code == 0, ran.err
    assert "device: cuda:0" in ran.err
    for command in (["resume", run, "train.steps=4"], ["evaluate", run], [train[0], run], ["inspect", run]):
        ran = attn(*command, *(inputs if command[0] in (train[0], "inspect") else ()))
        assert ran.code == 0, (command, ran.err)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism_trains(attn, data, name):
    """In a model of language where it can be causal, else in an encoder."""
    recipe = "gpt" if MECHANISMS[name].support.causal else "bert"
    options = {"topk": "topk=4", "window": "window=8", "performer": "features=16", "linformer": "rank=8"}
    more = [f"model.attention.{options[name]}"] if name in options else []
    arguments = [*QUICK, "train.device=cuda", f"model.attention.mechanism={name}", *more]
    ran = attn("pretrain", recipe, "--data", data / "text", *arguments, "--out", "run")
    assert ran.code == 0, ran.err


@pytest.mark.usefixtures("gpu")
def test_mechanisms_are_timed(attn, monkeypatch):
    monkeypatch.setitem(rates._SIZES, "cuda", (64, 128))  # in no time where the GPU is pretended
    brief = ["data.mechanisms=[linear,lsh]", "data.lengths=[32]", "data.tokens=32", "data.layouts=[latent]"]
    brief += ["model.attention.heads=2", "model.head_width=8", "evaluate.rounds=1", "evaluate.warmup=0"]
    ran = attn("bench", "attention", *brief, "train.device=cuda", "evaluate.peers=false", "--json")
    assert ran.code == 0, ran.err
    assert {row["case"] for row in ran.json["rows"]} > {"attn linear", "attn lsh", "layer latent"}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("case", ["texts", "transformer"])
def test_runs_move_between_machines(attn, data, tmp_path, monkeypatch, case):
    """Begun on a CPU, continued on a GPU, and on a CPU again, which applies it at last."""
    train, kind, inputs = CASES[case]
    monkeypatch.chdir(data)
    run = tmp_path / "run"
    for command in (
        [*train, "--data", kind, "--out", run, "train.device=cpu"],
        ["resume", run, "train.steps=3", "train.device=cuda"],
    ):
        ran = attn(*command)
        assert ran.code == 0, ran.err
    assert "device: cuda:0" in ran.err
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ran = attn("resume", run, "train.steps=4")
    assert ran.code == 5
    assert "train.device=cpu" in ran.err
    for command in ([train[0], run, *inputs], ["resume", run, "train.steps=4", "train.device=cpu"]):
        ran = attn(*command)
        assert ran.code == 0, ran.err


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: there @ here,
        lambda here, there: here[there.argmax(0)],
        lambda here, there: torch.cat((here, there)),
        lambda here, there: there.numpy(),
    ],
)
def test_a_gpu_refuses_what_is_not_on_it(mix):
    """The pretended one too: what this file tests rests on it."""
    with pytest.raises((RuntimeError, TypeError)):
        mix(torch.ones(2, 2), torch.ones(2, 2, device="cuda:0"))
