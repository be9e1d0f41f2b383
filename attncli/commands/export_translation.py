"""Translation models as folders: Hugging Face's Marian, or CTranslate2."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli.commands.shared import write_json
from attncli.errors import Problem, RecipeError

if TYPE_CHECKING:
    from attncli.tasks.translate import TranslateTask
    from attncli.training import RunFolder

_INSTALL = "pip install ctranslate2"


def check(task: TranslateTask, run: RunFolder, format: str) -> None:
    """Refuse what ``format`` has not, and say which format has it."""
    if format == "ctranslate2" and find_spec("ctranslate2") is None:
        raise RecipeError("--format ctranslate2 needs CTranslate2, which is not installed", then=_INSTALL)
    from attncli.models.ctranslate2_folder import ctranslate2_problems
    from attncli.models.marian import marian_config
    from attncli.models.translation import Seq2SeqConfig

    if not isinstance(task.config, Seq2SeqConfig):
        raise RecipeError(
            f"model.family={task.recipe.model.family} cannot be exported: neither transformers nor "
            "CTranslate2 has recurrent models with attention",
            then=f"attn translate {run.path} 'A sentence.'",
        )
    problems: dict[str, list[Problem]] = {"hf": [], "ctranslate2": ctranslate2_problems(task.config)}
    try:
        marian_config(task.config)
    except RecipeError as error:
        problems["hf"] += error.problems
    if not task.tokenizer.joint:
        what = "tokenizer.joint=false cannot be exported: a Hugging Face tokeniser has one vocabulary"
        problems["hf"].append(Problem(what))
    if problems[format]:
        other = next((name for name, found in problems.items() if not found), None)
        then = f"attn export {run.path} --format {other}" if other else f"attn translate {run.path} FILE"
        reason = "" if other else ": no format has this model; attn itself translates with it"
        raise RecipeError(
            *problems[format][:-1],
            Problem(f"{problems[format][-1].what}{reason}", hint=problems[format][-1].hint),
            then=then,
        )


def _write_marian(task: TranslateTask, folder: Path) -> None:
    from attncli.models.marian import save_marian

    tokenizer, search = task.tokenizer, task.recipe.evaluate.search
    generation: dict[str, Any] = {
        "num_beams": search.beam,
        "do_sample": False,
        "suppress_tokens": [tokenizer.pad_id, tokenizer.bos_id],
    }
    if search.beam > 1:
        generation |= {"length_penalty": search.length_penalty, "early_stopping": True}
    if search.min_length:
        generation["min_new_tokens"] = search.min_length
    if search.no_repeat:
        generation["no_repeat_ngram_size"] = search.no_repeat
    save_marian(task.model, folder, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, generation=generation)
    _write_tokenizers(task, folder)
    names = {
        f"{role}_token": tokenizer.source.id_to_token(getattr(tokenizer, f"{role}_id"))
        for role in ("pad", "bos", "eos", "unk")
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "model_max_length": task.config.length,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # </s> that stands in a text is text
    }
    write_json(folder / "tokenizer_config.json", settings)


def _use_marian(task: TranslateTask, folder: str) -> str:
    return (
        "from transformers import AutoTokenizer as T, MarianMTModel as M; "
        f"t = T.from_pretrained({folder!r}); m = M.from_pretrained({folder!r}); "
        "print(t.batch_decode(m.generate(**t(['A sentence.'], return_tensors='pt')), "
        "skip_special_tokens=True))"
    )


def _write_ctranslate2(task: TranslateTask, folder: Path) -> None:
    from attncli.models.ctranslate2_folder import save_ctranslate2

    tokenizer = task.tokenizer
    save_ctranslate2(
        task.model,
        folder,
        source=tokenizer.source_tokens(range(tokenizer.vocabulary_source)),
        target=tokenizer.target_tokens(range(tokenizer.vocabulary_target)),
    )
    _write_tokenizers(task, folder)


def _use_ctranslate2(task: TranslateTask, folder: str) -> str:
    search = task.recipe.evaluate.search
    options = (
        f"beam_size={search.beam}, length_penalty={search.length_penalty}, "
        f"min_decoding_length={search.min_length}"  # 1 unless it is said
    )
    if search.no_repeat:
        options += f", no_repeat_ngram_size={search.no_repeat}"
    names = ["tokenizer"] if task.tokenizer.joint else ["source", "target"]
    files = [os.path.join(folder, f"{name}.json") for name in names]
    return (
        "import ctranslate2; from tokenizers import Tokenizer as T; "
        f"s = T.from_file({files[0]!r}); t = T.from_file({files[-1]!r}); "
        f"m = ctranslate2.Translator({folder!r}); "
        f"r = m.translate_batch([s.encode('A sentence.').tokens], {options}); "
        "print(t.decode([t.token_to_id(p) for p in r[0].hypotheses[0]]))"
    )


def _write_tokenizers(task: TranslateTask, folder: Path) -> None:
    """The run's tokeniser as its library reads it, without what only attn reads."""
    task.tokenizer.save(folder)
    (folder / "translation.json").unlink()


WRITERS = {
    "hf": (_write_marian, _use_marian),
    "ctranslate2": (_write_ctranslate2, _use_ctranslate2),
}
"""Format to what writes it, and to Python that applies what was written."""


def note(task: TranslateTask) -> str:
    """What is left behind."""
    if not task.recipe.evaluate.search.shortlist:
        return ""
    return "the export searches the whole vocabulary: evaluate.search.shortlist is attn's own"
