"""``attn bench decode`` and ``attn bench translate``: a translation model searched and trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.errors import RecipeError, nearest
from attncli.recipe.bench import BenchDecodeRecipe, BenchTranslateRecipe

if TYPE_CHECKING:
    import torch

    from attncli.bench.decode import Ids
    from attncli.data.pair_tokenizers import PairTokenizer
    from attncli.tasks.translator import Translator


@dataclass
class _Subject:
    """A translator that takes ids, what it translates, and where there are texts, their references."""

    translator: Translator
    sources: Ids
    title: str
    tokenizer: PairTokenizer | None = None
    references: list[str] | None = None
    language: str = ""
    shortlist: Translator | None = None
    """The same with the run's shortlist, where it has one."""


def decode(recipe: BenchDecodeRecipe, device: torch.device, dry_run: bool) -> dict[str, Any]:
    """Time the search of every system; the report."""
    from attncli.bench import decode as bench
    from attncli.bench.timing import interleave
    from attncli.training import describe_device

    subject = _trained(recipe, device) if recipe.data.run else _random(recipe, device)
    translator = subject.translator
    work = bench.Work(subject.sources, translator.settings, recipe.evaluate.peers_batch, translator.longest)
    if dry_run:
        return {
            "device": describe_device(device),
            "model": subject.title,
            "parameters": sum(p.numel() for p in translator.model.parameters()),
            "sentences": len(subject.sources),
            "beam": translator.settings.beam,
            "rounds": recipe.evaluate.rounds + recipe.evaluate.warmup,
        }
    console.say(f"device: {describe_device(device)}; {subject.title}")
    written: dict[tuple[str, str], Ids] = {}

    def own(case: str, mine: Translator) -> None:
        translations = mine.translate_encoded(work.sources)
        written[case, "float32"] = [best.tokens for best, *_ in translations]

    ours = {("attn", "float32"): partial(own, "attn", translator)}
    if subject.shortlist is not None:
        ours["attn, shortlist", "float32"] = partial(own, "attn, shortlist", subject.shortlist)
    with bench.peer_searches(
        translator.model, work, device, console.say, wanted=recipe.evaluate.peers
    ) as peers:
        cases = {**ours, **peers}
        rounds, warmup = recipe.evaluate.rounds, recipe.evaluate.warmup
        with console.Progress("rounds", total=rounds + warmup) as bar:
            named = {"|".join(key): case for key, case in cases.items()}
            timed = interleave(
                named, rounds=rounds, warmup=warmup, device=device, on_round=lambda done: bar.advance(1)
            )
        written |= {key: peer.result() for key, peer in peers.items()}
    bleu = {key: _bleu(subject, found) for key, found in written.items()} if subject.references else {}
    rows = bench.table(work, {key: timed["|".join(key)] for key in cases}, written, bleu)
    if not console.json_mode():
        columns = ["case", "precision", "sentences/s", "spread", "tokens/s", "attn is faster by", "BLEU"]
        shown = [
            (
                row["case"],
                row["precision"],
                f"{row['sentences_per_second']:,.0f}",
                f"{100 * row['spread']:.0f} %",
                f"{row['tokens_per_second']:,.0f}",
                f"{row['attn_times_as_fast']:.2f}",
                "-" if row["bleu"] is None else f"{row['bleu']:.2f}",
            )
            for row in rows
        ]
        title = f"beam {work.settings.beam}, {len(work.sources):,} sentences"
        console.table(columns, shown, title=title, right=columns[2:])
    return {
        "bench": "decode",
        "device": describe_device(device),
        "sentences": len(work.sources),
        "search": asdict(work.settings),
        "rows": rows,
    }


def _bleu(subject: _Subject, found: Ids) -> float:
    from attncli.metrics.translation import score

    texts = [subject.tokenizer.decode(ids) for ids in found]
    return score(texts, subject.references, language=subject.language, metrics=("bleu",))["bleu"]


def _trained(recipe: BenchDecodeRecipe, device: torch.device) -> _Subject:
    """The model of a run, and its test set."""
    from attncli.bench.decode import SpecialIds
    from attncli.commands.trained import load_task, open_run
    from attncli.tasks.translator import Translator

    data = recipe.data
    run, loaded = open_run("translate", data.run, [f"train.device={recipe.train.device}"])
    if run.info["command"] != "translate":
        raise RecipeError(f"data.run={data.run}: attn {run.info['command']} made it, not attn translate")
    task, _ = load_task(run, loaded, data=True)
    tests = {test.name: test for test in task.pairs.tests}
    name = data.test or next(iter(tests), "")
    if name not in tests:
        near = nearest(name, tests)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(tests) or 'none'}"
        raise RecipeError(f"data.test={name}: the run has no such test set; {hint}")
    sources, references = (texts[: data.sentences] for texts in (tests[name].sources, tests[name].references))
    tokenizer = task.tokenizer
    special = SpecialIds(tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id)
    search = recipe.evaluate.search
    translator = Translator(task.model, special, search)  # type: ignore[arg-type]
    encoded = task.translator().encode(sources)
    kept = [at for at, ids in enumerate(encoded) if ids]
    return _Subject(
        translator,
        [encoded[at] for at in kept],
        f"{name} of {run.path}",
        tokenizer,
        [references[at] for at in kept],
        loaded.recipe.data.target,
        None if task.shortlist is None else Translator(task.model, special, search, task.shortlist),
    )


def _random(recipe: BenchDecodeRecipe, device: torch.device) -> _Subject:
    """Random weights and sentences; every translation as long as the other."""
    import torch

    from attncli.bench.decode import FixedLength, SpecialIds, random_sources
    from attncli.models.translation import build_translation, resolve_translation
    from attncli.tasks.translator import Translator

    data, words, search = recipe.data, recipe.tokenizer.vocabulary, recipe.evaluate.search
    torch.manual_seed(recipe.train.seed)
    model = build_translation(
        resolve_translation(recipe.model, source_vocabulary=words, target_vocabulary=words)
    )
    translator = Translator(model.to(device).eval(), SpecialIds(), search)  # type: ignore[arg-type]
    translator.settings = FixedLength(
        beam=search.beam,
        length_penalty=search.length_penalty,
        min_length=data.output - 1,
        no_repeat=search.no_repeat,
    )
    sources = random_sources(data, data.sentences, words, recipe.train.seed)
    return _Subject(translator, sources, f"random weights, {data.output} tokens a translation")


def translate(recipe: BenchTranslateRecipe, device: torch.device, dry_run: bool) -> dict[str, Any]:
    """Time training steps; the report."""
    from attncli.bench import translate as bench
    from attncli.bench.timing import interleave
    from attncli.recipe.translate import TransformerRecipe
    from attncli.tasks.translate import TranslateTask
    from attncli.training import choose_arithmetic, describe_device

    arithmetic = choose_arithmetic(recipe.train.precision, device)
    arithmetic.apply()
    console.say(f"device: {describe_device(device)}; precision {arithmetic.precision}: {arithmetic.reason}")
    words = recipe.tokenizer.vocabulary
    training = TransformerRecipe(model=recipe.model, train=recipe.train)

    def build() -> TranslateTask:
        return TranslateTask(training, bench.Vocabulary(size=words), None)  # type: ignore[arg-type]

    batches = bench.training_batches(recipe)
    if dry_run:
        return {
            "device": describe_device(device),
            "parameters": sum(p.numel() for p in build().model.parameters()),
            "steps in a round": len(batches),
            "target tokens in a round": bench.target_tokens(batches),
            "rounds": recipe.evaluate.rounds + recipe.evaluate.warmup,
        }
    own = bench.own_steps(recipe, build, batches, device, arithmetic.precision)
    peers = bench.peer_steps(recipe, device, arithmetic.precision, console.say)
    cases = {**own, **peers}
    rounds, warmup = recipe.evaluate.rounds, recipe.evaluate.warmup
    try:
        with console.Progress("rounds", total=rounds + warmup) as bar:
            named = {"|".join(key): step for key, step in cases.items()}
            timed = interleave(
                named, rounds=rounds, warmup=warmup, device=device, on_round=lambda done: bar.advance(1)
            )
        tokens = dict.fromkeys(own, bench.target_tokens(batches))
        tokens |= {key: peer.result() for key, peer in peers.items()}
    finally:
        for peer in peers.values():
            peer.close()
    rows = bench.table({key: timed["|".join(key)] for key in cases}, tokens)
    if not console.json_mode():
        columns = ["case", "precision", "ms", "spread", "target tokens/s", "attn is faster by"]
        shown = [
            (
                row["case"],
                row["precision"],
                f"{row['milliseconds']:.0f}",
                f"{100 * row['spread']:.0f} %",
                f"{row['tokens_per_second']:,.0f}",
                f"{row['attn_times_as_fast']:.2f}",
            )
            for row in rows
        ]
        size = f"transformer {recipe.model.size}, vocabulary {words:,}, {recipe.train.batch:,} tokens a step"
        console.table(columns, shown, title=f"{len(batches)} training steps, {size}", right=columns[2:])
    return {"bench": "translate", "device": describe_device(device), "rows": rows}
