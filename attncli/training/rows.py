"""AdamW for tables of which a step reads few rows: word embeddings in fine-tuning.

Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

_MOMENTS = "exp_avg", "exp_avg_sq"
_ROOMS = *_MOMENTS, "values", "gradient"  # the last two are written afresh in each step


class RowAdamW(Optimizer):
    """AdamW for tables [V, C] with sparse gradients, over the rows that have had a gradient so far.

    AdamW's update of a row without gradients is its decay alone: such rows are left as they are, and every
    other row is updated in every step, as AdamW does. Its ``state_dict`` is that of ``torch.optim.AdamW``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every table that has a gradient."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, group)

    def _update(self, table: nn.Parameter, group: dict[str, Any]) -> None:
        grad = table.grad.coalesce()
        found = grad.indices()[0]
        state = self.state[table]
        if not state:
            _begin(state, table, found)
        place = state["place"][found]
        fresh = found[place < 0]
        if len(fresh):
            _add(state, table, fresh)
            place = state["place"][found]
        rows = state["rows"]
        first, second, values, gradient = (state[name][: len(rows)] for name in _ROOMS)  # [R, C] each
        torch.index_select(table, 0, rows, out=values)
        gradient.zero_().index_copy_(0, place, grad.values())
        adamw(
            [values], [gradient], [first], [second], [], [state["step"]],
            fused=True, amsgrad=False, beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"],
            weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip
        table.index_copy_(0, rows, values)

    def state_dict(self) -> dict[str, Any]:
        """As AdamW's: moments of all rows, zero where there was no gradient."""
        stored = super().state_dict()
        tables = [table for group in self.param_groups for table in group["params"]]
        stored["state"] = {at: _whole(state, tables[at]) for at, state in stored["state"].items()}
        return stored

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the state of this or of AdamW."""
        super().load_state_dict(state_dict)
        for table, state in self.state.items():
            moments = {name: state.pop(name) for name in _MOMENTS}
            rows = (moments["exp_avg"].any(1) | moments["exp_avg_sq"].any(1)).nonzero()[:, 0]
            step = state.pop("step")
            _begin(state, table, rows)
            state["step"] = step
            _add(state, table, rows)
            for name, moment in moments.items():
                state[name][: len(rows)] = moment[rows]


def _begin(state: dict[str, Any], table: Tensor, rows: Tensor) -> None:
    """An empty state, with room for ``rows``."""
    state["step"] = torch.zeros((), dtype=torch.float32)
    state["rows"] = rows.new_empty(0)
    state["place"] = rows.new_full((table.shape[0],), -1)
    for name in _ROOMS:
        state[name] = table.new_zeros(len(rows), table.shape[1])


def _add(state: dict[str, Any], table: Tensor, rows: Tensor) -> None:
    """Take in ``rows``, which had no gradient before; room doubles where there is none left."""
    known = len(state["rows"])
    total = known + len(rows)
    state["place"][rows] = torch.arange(known, total)
    state["rows"] = torch.cat([state["rows"], rows])
    if len(state["values"]) < total:
        for name in _ROOMS:
            room = table.new_zeros(min(len(table), 2 * total), table.shape[1])
            room[:known] = state[name][:known]
            state[name] = room


def _whole(state: dict[str, Any], table: Tensor) -> dict[str, Tensor]:
    """AdamW's state of a table, from that of its rows."""
    found = {"step": state["step"]}
    for name in _MOMENTS:
        rows = state["rows"]
        found[name] = torch.zeros_like(table).index_copy_(0, rows, state[name][: len(rows)])
    return found


def sparse_tables(model: nn.Module) -> set[int]:
    """The ids of the weights that get sparse gradients."""
    return {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse}


def make_sparse(model: nn.Module) -> None:
    """Embeddings that are marked as ``looked_up`` get sparse gradients from now on."""
    for module in model.modules():
        if getattr(module, "looked_up", False):
            module.sparse = True
