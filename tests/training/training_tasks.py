"""Two small real tasks, and a program that trains one of them: what the tests kill and resume."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from attncli.errors import AttnError
from attncli.ops.dropout import Dropout
from attncli.recipe.sections import TrainSection
from attncli.training import Goal, Reporter, RunFolder, Task, checkpoints, fit


class ShuffledBatches:
    """Every example once an epoch, in an order drawn for that epoch; ``make`` builds a batch."""

    def __init__(self, examples, size, make, seed):
        self.examples, self.size, self.make, self.seed = examples, size, make, seed
        self.position = 0

    @property
    def epoch(self):
        return self.position * self.size / self.examples

    def indices(self):
        each = self.examples // self.size
        epoch, place = divmod(self.position, each)
        order = torch.randperm(self.examples, generator=torch.Generator().manual_seed(self.seed + epoch))
        return order[place * self.size : (place + 1) * self.size]

    def next(self, parts, of):
        chosen = self.indices()
        generator = torch.Generator().manual_seed(1000 + self.position)
        whole = self.make(chosen, generator)
        self.position += 1
        cut = {name: tensor.tensor_split(of) for name, tensor in whole.items()}
        return [{name: pieces[part] for name, pieces in cut.items()} for part in parts]

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class Regression(Task):
    """A perceptron with dropout learns a smooth function."""

    name = "toy"
    goal = Goal("error")
    unit = "examples"

    def __init__(self, batch=16, seed=1, width=16, dropout=0.1, delay=0.0):
        torch.manual_seed(seed)
        self.batch, self.seed, self.delay = batch, seed, delay
        self.model = nn.Sequential(
            nn.Linear(4, width),
            nn.Tanh(),
            Dropout(dropout),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 1),
        )
        self.model[5].muon = False
        generator = torch.Generator().manual_seed(7)
        self.x = torch.randn(256, 4, generator=generator)
        self.y = (self.x.sin().sum(1, keepdim=True)) * 0.5
        self.seen: list[list[float]] = []

    def batches(self):
        def make(chosen, generator):
            noise = 0.01 * torch.randn(len(chosen), 4, generator=generator)
            return {"x": self.x[chosen] + noise, "y": self.y[chosen], "index": chosen}

        return ShuffledBatches(192, self.batch, make, self.seed)

    def counts(self, batch):
        return {"square": len(batch["x"])}

    def losses(self, batch):
        if self.delay:
            time.sleep(self.delay)
        self.seen.append(batch["index"].tolist())
        return {"square": (self.model(batch["x"]).float() - batch["y"]).pow(2).sum()}

    def size(self, batch):
        return len(batch["x"])

    def evaluate(self, shard):
        total = {"error": 0.0, "count": 0.0}
        for start in shard.mine(range(192, 256, 8)):
            x, y = self.x[start : start + 8], self.y[start : start + 8]
            total["error"] += (self.model(x).float() - y).pow(2).sum().item()
            total["count"] += len(x)
        total = shard.sum(total)
        return {"error": total["error"] / total["count"]}


class Pairs(nn.Module):
    """Embeddings tied to the output, and a second head on the mean."""

    def __init__(self, vocabulary=23, width=12):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, vocabulary)
        self.out.weight = self.embed.weight
        self.pair = nn.Linear(width, 2)
        self.pair.muon = False

    def forward(self, tokens):
        hidden = torch.tanh(self.hidden(self.embed(tokens)))  # [B, T, C]
        return self.out(hidden), self.pair(hidden.mean(1))


class Tokens(Task):
    """Next symbols of a cycle, some of them masked; a second label for some rows. Counts vary by part."""

    name = "toy"
    goal = Goal("accuracy", higher=True)

    def __init__(self, batch=12, seed=1):
        torch.manual_seed(seed)
        self.batch, self.seed = batch, seed
        self.model = Pairs()
        starts = torch.arange(240) * 5 % 23
        steps = 1 + torch.arange(240) % 2
        self.rows = (starts[:, None] + steps[:, None] * torch.arange(9)) % 23  # [240, 9]
        self.kind = steps - 1

    def batches(self):
        def make(chosen, generator):
            rows = self.rows[chosen]
            labels = rows[:, 1:].clone()
            labels[torch.rand(labels.shape, generator=generator) < 0.4] = -100
            kind = self.kind[chosen].clone()
            kind[torch.rand(len(kind), generator=generator) < 0.5] = -100
            return {"tokens": rows[:, :-1], "labels": labels, "kind": kind}

        return ShuffledBatches(192, self.batch, make, self.seed)

    def counts(self, batch):
        return {"token": int((batch["labels"] >= 0).sum()), "pair": int((batch["kind"] >= 0).sum())}

    def losses(self, batch):
        logits, pair = self.model(batch["tokens"])
        return {
            "token": F.cross_entropy(
                logits.flatten(0, 1).float(), batch["labels"].flatten(), reduction="sum"
            ),
            "pair": F.cross_entropy(pair.float(), batch["kind"], reduction="sum"),
        }

    def size(self, batch):
        return batch["tokens"].numel()

    def evaluate(self, shard):
        total = {"right": 0.0, "count": 0.0}
        for row in shard.mine(self.rows[192:].split(8)):
            predicted = self.model(row[:, :-1])[0].argmax(-1)
            total["right"] += float((predicted == row[:, 1:]).sum())
            total["count"] += row[:, 1:].numel()
        total = shard.sum(total)
        return {"accuracy": total["right"] / total["count"]}


class Untied(Tokens):
    """The embeddings are read by nothing but the look-up."""

    def __init__(self, looked_up=True, **options):
        super().__init__(**options)
        self.model.out.weight = nn.Parameter(self.model.embed.weight.detach().clone())
        self.model.embed.looked_up = looked_up


class Exploding(Regression):
    """Its seventeenth loss is not finite."""

    def losses(self, batch):
        loss = super().losses(batch)["square"]
        return {"square": loss * (float("nan") if len(self.seen) == 17 else 1.0)}


class Partial(Tokens):
    """A parameter of its model takes no part."""

    def __init__(self, **options):
        super().__init__(**options)
        self.model.spare = nn.Linear(3, 3)


TASKS = {
    "regression": Regression,
    "tokens": Tokens,
    "untied": Untied,
    "exploding": Exploding,
    "partial": Partial,
}


def section(**values):
    """Settings of a short run."""
    given = {
        "steps": 30,
        "batch": 12,
        "evaluate_every": 10,
        "log_every": 4,
        "precision": "float32",
        "threads": 1,
    }
    return TrainSection(**{**given, **values})


def new_run(path, recipe="toy"):
    return RunFolder.create(path, command="pretrain", recipe=recipe, text="train: {}\n")


def train(path, task="regression", resume=False, reporter=None, task_options=None, **settings):
    """Create or open the run in ``path`` and fit; the result, the task and the run."""
    values = section(**settings)
    made = TASKS[task](batch=values.batch, seed=values.seed, **(task_options or {}))
    run = RunFolder.open(path) if resume else new_run(path)
    return fit(made, values, run, reporter, resume=resume), made, run


def program(path, task, settings, options=None, resume=True, die_at=0, slow=0.0, limit=0, log=None):
    """Train as a process of its own would: begin or go on, exit with the code of the command line.

    ``die_at`` kills the process at that operation of its saves, ``slow`` waits before each of them.
    """
    torch.set_num_threads(1)
    if log:
        sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115
    path, rank = Path(path), int(os.environ.get("RANK", "0"))
    values = section(**settings)
    if rank == 0 and not (path / "run.json").exists():
        new_run(path)
    while not (path / "run.json").exists():
        time.sleep(0.02)
    if die_at or slow:
        _meddle(die_at, slow)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    made = TASKS[task](batch=values.batch, seed=values.seed, **(options or {}))
    try:
        fit(made, values, RunFolder.open(path), Marks(path), resume=resume)
    except AttnError as error:
        print(f"{type(error).__name__}: {error} | {error.then}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    if hasattr(made, "seen"):
        (path / f"seen-{rank}.json").write_text(json.dumps(made.seen))


class Marks(Reporter):
    """Leaves the step reached in a file, for a test to wait for."""

    def __init__(self, path):
        self.path = path

    def on_step(self, step, units, values):
        (self.path / "reached").write_text(str(step))


def _meddle(die_at, slow):
    """Count the operations of saves, down to single files and renames; stretch them, die in one."""
    done = itertools.count(1)

    def meddled(original):
        def operation(*args, **options):
            time.sleep(slow)
            if next(done) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        return operation

    for name in ("write_weights", "save_tensors", "write_json", "flush_file"):
        setattr(checkpoints, name, meddled(getattr(checkpoints, name)))
    Path.rename = meddled(Path.rename)
    Path.replace = meddled(Path.replace)
    shutil.rmtree = meddled(shutil.rmtree)
