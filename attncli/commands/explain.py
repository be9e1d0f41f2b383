"""``attn explain``: what an attention mechanism, a head layout, a position or an idea is, what it costs, when
to use it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from attncli import console
from attncli.attention import MECHANISMS, POSITIONS
from attncli.attention.ideas import IDEAS, ideas_of
from attncli.attention.images import IMAGES
from attncli.attention.layouts import LAYOUTS
from attncli.attention.table import options_of
from attncli.errors import Problem, RecipeError, nearest

_SUPPORT = {
    "causal": "causal",
    "padding": "padding",
    "pairs": "any mask",
    "cross": "cross",
    "cache": "cache",
    "gqa": "grouped heads",
    "bias": "positions t5, alibi, relative_2d",
    "relative": "position shaw",
    "weights": "weights to look at",
}


def main(names: list[str]) -> None:
    """Explain ``names``, or list everything there is."""
    if not names:
        _list()
        return
    kinds = _kinds()
    every = [name for table, _ in kinds for name in table]
    problems = []
    for name in names:
        if name not in every:
            near = nearest(name, every)
            hint = f"did you mean {near}?" if near else None
            problems.append(Problem(f"no mechanism, layout, position or idea is called {name!r}", hint=hint))
    if problems:
        raise RecipeError(*problems, then="attn explain")
    found = [about(name) for name in names for table, about in kinds if name in table]
    console.document({"explained": found})
    if console.json_mode():
        return
    for number, about in enumerate(found):
        console.result(("\n" if number else "") + f"{about.pop('name')}\n")
        console.result(about.pop("text") + "\n")
        for label, value in about.items():
            if value:
                console.result(f"{label + ':':18}{value}")


def _kinds() -> list[tuple[Any, Callable[[str], dict[str, str]]]]:
    """Each table, and what says of one of its entries what there is to say, in order."""
    return [
        (MECHANISMS, _mechanism),
        (LAYOUTS, _layout),
        (IMAGES, _image),
        (POSITIONS, _position),
        (IDEAS, _idea),
    ]


def _list() -> None:
    mechanisms = [(name, _summary(kind), kind.time, _marks(kind)) for name, kind in MECHANISMS.items()]
    layouts = [(name, _sentence(about.text), about.held, about.line) for name, about in LAYOUTS.items()]
    images = [(name, _summary(kind), kind.time, kind.takes) for name, kind in IMAGES.items()]
    ideas = [(name, about.text, ", ".join((*about.names, *about.lines))) for name, about in IDEAS.items()]
    tables = {
        "mechanisms": (["mechanism", "what it does", "time", "does not support"], mechanisms),
        "layouts": (["layout", "what it does", "held in a cache", "line"], layouts),
        "images": (["for pictures", "what it does", "time", "takes"], images),
        "ideas": (["idea", "what it is", "found under"], ideas),
    }
    console.document(
        {
            key: [dict(zip(columns, row, strict=True)) for row in rows]
            for key, (columns, rows) in tables.items()
        }
    )
    if not console.json_mode():
        for columns, rows in tables.values():
            console.table(columns, rows)
        console.result(f"positions: {', '.join(POSITIONS)}")
        console.result("next: attn explain NAME")


def _marks(kind: Any) -> str:
    return ", ".join(text for key, text in _SUPPORT.items() if not getattr(kind.support, key))


def _mechanism(name: str) -> dict[str, str]:
    kind = MECHANISMS[name]
    taken = inspect.signature(kind.__init__).parameters
    options = {key: taken[key].default for key in options_of(name)}
    return {
        "name": f"mechanism {name}",
        "text": _docs(kind),
        "idea": ", ".join(ideas_of(name)),
        "time": f"{kind.time} for each head, T tokens, width D",
        "memory": f"{kind.memory} beside inputs and outputs",
        "options": ", ".join(f"model.attention.{key}={value}" for key, value in options.items()),
        "supports": ", ".join(text for key, text in _SUPPORT.items() if getattr(kind.support, key)),
        "does not support": _marks(kind),
        "backends": ", ".join(kind.support.backends) or "none: it computes itself",
        "use": kind.use,
        "change": f"attn pretrain {_trained(kind)} model.attention.mechanism={name}",
    }


def _trained(kind: Any) -> str:
    """A recipe that can train it."""
    return "gpt" if kind.support.causal else "bert"


def _layout(name: str) -> dict[str, str]:
    about = LAYOUTS[name]
    options = about.options(4, 64)  # of pretrain gpt's four heads
    line = ",".join(f"model.attention.{key}={value}" for key, value in options.items())
    return {
        "name": f"head layout {name}",
        "text": about.text.replace("``", ""),
        "idea": ", ".join(ideas_of(name)),
        "held in a cache": f"{about.held} numbers for each token in each layer",
        "supports": "every mechanism that supports grouped heads"
        if "kv_heads" in options
        else "every mechanism",
        "use": about.use,
        "change": f"attn pretrain gpt {line or 'model.attention.kv_heads=4'}",
    }


def _image(name: str) -> dict[str, str]:
    kind = IMAGES[name]
    return {
        "name": f"for pictures {name}",
        "text": _docs(kind),
        "idea": ", ".join(ideas_of(name)),
        "time": f"{kind.time} for a picture of H times W places and C channels",
        "memory": kind.memory,
        "takes": kind.takes,
        "recorded": kind.seen,
        "use": kind.use,
        "in Python": f"attncli.attention.images.{kind.__name__}{_arguments(kind)}",
    }


def _arguments(kind: type) -> str:
    """The arguments of a class with their defaults, without types."""
    given = [
        part.replace(annotation=inspect.Parameter.empty)
        for key, part in inspect.signature(kind.__init__).parameters.items()
        if key != "self"
    ]
    return str(inspect.Signature(given))


def _position(name: str) -> dict[str, str]:
    return {
        "name": f"position {name}",
        "text": _docs(POSITIONS[name][0]),
        "change": f"attn {_seen_by(POSITIONS[name][0])} model.attention.position={name}",
    }


def _seen_by(kind: Any) -> str:
    """A recipe whose tokens such positions are of."""
    return {2: "classify vit", 3: "classify video"}.get(getattr(kind, "axes", 1), "pretrain bert")


def _idea(name: str) -> dict[str, str]:
    about = IDEAS[name]
    return {
        "name": f"idea {name}",
        "text": f"{about.text[0].upper()}{about.text[1:]}.",
        "found under": ", ".join(about.names),
        "in recipes": ", ".join(about.lines),
        "next": f"attn explain {about.names[0]}",
    }


def _docs(kind: Any) -> str:
    """What the module says of the idea and the class of its parts."""
    module = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "")
    return f"{module}\n\n{inspect.getdoc(kind) or ''}".replace("``", "").strip()


def _summary(kind: type) -> str:
    """The module's first sentence after its name."""
    return _sentence(_docs(kind))


def _sentence(text: str) -> str:
    first = text.split("\n\n")[0].replace("\n", " ").replace("``", "").rstrip(".")
    head, _, tail = first.partition(": ")
    return tail or head
