"""``attn export``: a finished run as a folder that other libraries load."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.commands import export_text
from attncli.commands.trained import load_task, open_run, say_run
from attncli.errors import Problem, RecipeError, nearest

if TYPE_CHECKING:
    from attncli.tasks.pretrain import PretrainTask
    from attncli.tasks.translate import TranslateTask
    from attncli.training import RunFolder

FORMATS = {"hf": "Hugging Face transformers", "ctranslate2": "CTranslate2", "onnx": "onnxruntime"}
"""Names of formats, and who reads them."""


def main(first: str, *, format: str = "hf", out: Path | None = None) -> None:
    """Write the best weights of a run, its tokeniser and settings into a new folder."""
    if format not in FORMATS:
        near = nearest(format, FORMATS) or "hf"
        what = f"--format {format}: there is none of that name; there are {', '.join(FORMATS)}"
        raise RecipeError(what, then=f"attn export {first} --format {near}")
    run, loaded = open_run("export", first)
    command = run.info["command"]
    folder = run.path / format if out is None else Path(os.path.expanduser(out))
    _refuse_full(folder, f"attn export {shlex.quote(first)} --format {format}")
    known = _FORMATS_OF[command]
    if format not in known:
        raise RecipeError(
            f"{run.path} is a run of attn {command}, which can be exported as {' or '.join(known)}",
            then=f"attn export {run.path} --format hf",
        )
    if format == "ctranslate2" and find_spec("ctranslate2") is None:
        raise RecipeError("--format ctranslate2 needs CTranslate2, which is not installed", then=_INSTALL)
    say_run(run)
    task, _ = load_task(run, loaded, data=False)
    task.model.float().cpu()
    if command == "translate":
        _check_translation(task, run, format)
        write, use = _TRANSLATION[format]
    elif command in ("finetune", "classify"):
        export_text.check_text(task, run, format)
        write, use = _TEXT[format]
    else:
        _check_language(task, run)
        write, use = _write_language, _use_language
    _in_place(folder, lambda aside: write(task, aside))
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    then = _python(use(task, str(folder)))
    console.document(
        {"run": str(run.path), "format": format, "folder": str(folder), "files": files, "next": then}
    )
    if not console.json_mode():
        rows = [(name, console.size(size)) for name, size in files.items()]
        console.table(["file", "size"], rows, title=f"{folder} for {FORMATS[format]}", right=["size"])
    if command == "translate" and loaded.recipe.evaluate.search.shortlist:
        console.say("the export searches the whole vocabulary: evaluate.search.shortlist is attn's own")
    console.say(f"next: {then}")


_FORMATS_OF = {
    "pretrain": ("hf",),
    "translate": ("hf", "ctranslate2"),
    "finetune": export_text.FORMATS,
    "classify": export_text.FORMATS,
}
_TEXT = {
    "hf": (export_text.write_hf, export_text.use_hf),
    "onnx": (export_text.write_onnx, export_text.use_onnx),
}
_INSTALL = "pip install ctranslate2"


def _python(code: str) -> str:
    """The shell's command that runs ``code``; in double quotes where that is safe, as it reads better."""
    return f'python -c "{code}"' if not set('"$`\\!') & set(code) else f"python -c {shlex.quote(code)}"


def _refuse_full(folder: Path, command: str) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        what = "exists and is not an empty folder" if folder.is_dir() else "is a file"
        other = f"{folder}-2"
        raise RecipeError(
            Problem(f"{folder} {what}", hint="nothing is written over"),
            then=f"{command} --out {shlex.quote(other)}",
        )


def _in_place(folder: Path, write: Callable[[Path], object]) -> None:
    """What ``write`` puts into a folder appears at ``folder`` when all of it is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".tmp-export-", dir=folder.parent))
    try:
        aside.chmod(0o755)
        write(aside)
        try:
            aside.rename(folder)
        except OSError as error:
            if not folder.exists():
                raise
            raise RecipeError(f"{folder} came to be meanwhile; nothing is written over") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# Translation


def _check_translation(task: TranslateTask, run: RunFolder, format: str) -> None:
    """Refuse what ``format`` has not, and say which format has it."""
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
    _write_json(folder / "tokenizer_config.json", settings)


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


_TRANSLATION = {
    "hf": (_write_marian, _use_marian),
    "ctranslate2": (_write_ctranslate2, _use_ctranslate2),
}


# Language models


def _check_language(task: PretrainTask, run: RunFolder) -> None:
    from attncli.models.huggingface_folder import choose_model_type

    try:
        choose_model_type(task.recipe.model.family, task.config)
    except RecipeError as error:
        then = task.next_commands(run.path)[0]
        raise RecipeError(*error.problems, then=then) from None


def _write_language(task: PretrainTask, folder: Path) -> None:
    from attncli.models.huggingface_folder import save_huggingface

    tokenizer = task.tokenizer
    begin, end = ("eos", "eos") if task.causal else ("cls", "sep")  # a document's end begins the next
    roles = {"pad": "pad", "bos": begin, "eos": end} | ({} if task.causal else {"cls": "cls", "sep": "sep"})
    special = {f"{name}_token_id": getattr(tokenizer, f"{role}_id") for name, role in roles.items()}
    save_huggingface(task.model, folder, family=task.recipe.model.family, special=special)
    tokenizer.save(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    inputs = ["input_ids", "attention_mask"]
    if getattr(task.config, "segments", 0):
        inputs.insert(1, "token_type_ids")
    settings |= {"model_max_length": task.config.length, "model_input_names": inputs}
    settings |= {"clean_up_tokenization_spaces": False}
    _write_json(path, settings)
    if task.causal:
        _bare(folder / "tokenizer.json")


def _bare(path: Path) -> None:
    """Nothing put around a text: a causal model goes on behind it."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values["post_processor"] = None
    _write_json(path, values)


def _use_language(task: PretrainTask, folder: str) -> str:
    if task.causal:
        return f"from transformers import pipeline; print(pipeline('text-generation', {folder!r})('Once'))"
    mask = task.tokenizer.tokens[task.tokenizer.mask_id]
    text = f"A {mask} is an object."
    return f"from transformers import pipeline; print(pipeline('fill-mask', {folder!r})({text!r}))"
