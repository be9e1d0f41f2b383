"""How much of each token of a clip the output reads: attention followed back through space and time.

Heads are averaged, the residual stream counts as half, layers are multiplied (attention rollout, Abnar and
Zuidema 2020, https://arxiv.org/abs/2005.00928), from what the output reads down to the tokens.

Legend: S scales, P moments (tubelets) of a clip, N tokens of a moment in R rows and Q columns, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from attncli.models.vision.video_config import VideoConfig
from attncli.reports.heads import rollout

Weights = Sequence[tuple[str, np.ndarray]]
"""Names of layers with their weights [rows, H, T, T], of one clip, in the order of the forward pass."""


def token_shares(
    config: VideoConfig, weights: Weights, pools: Mapping[str, np.ndarray], there: np.ndarray
) -> np.ndarray:
    """Shares of all tokens of a clip in what the output reads: [S, P, R, Q], which add up to 1.

    Args:
        config: of the model that the weights are of.
        weights: of its layers; without any, all tokens are alike.
        pools: weights [rows, 1, 1, T] of what pools by attention, by name.
        there: bool [S, P], moments that are no padding.
    """
    grid, scales = config.encoder.grid, config.scales
    if not weights:
        found = np.broadcast_to(there[:, :, None, None], (scales, *grid)).astype(np.float64)
        return found / found.sum()
    seen = _Seen(weights, pools)
    found = []
    for scale in range(scales):
        read = _READS[config.space_time](seen, config, scale, there[scale])  # [P, N]
        found.append(read / max(read.sum(), 1e-12))
    fusion = seen.pool("fusion.pool", 0, scales) if scales > 1 else np.ones(1)
    return (np.stack(found) * fusion[:, None, None]).reshape(scales, *grid)


class _Seen:
    """Recorded weights by the layers they are of."""

    def __init__(self, layers: Weights, pools: Mapping[str, np.ndarray]) -> None:
        self.layers, self.pools = layers, pools

    def pool(self, name: str, row: int, tokens: int) -> np.ndarray:
        """Weights [T] of a pooling for one of its rows; all alike where it has none."""
        found = self.pools.get(name)
        return np.full(tokens, 1 / tokens) if found is None else found[row, 0, 0]

    def rolled(self, part: str, row: int, length: int) -> np.ndarray:
        """Rollout [T, T] of the layers whose names begin so."""
        maps = [weights[row] for name, weights in self.layers if name.startswith(part)]
        return rollout(maps) if maps else np.eye(length)


def _read_by(seen: _Seen, name: str, row: int, there: np.ndarray, prefix: int) -> np.ndarray:
    """What a pooling reads of tokens, the class token first where there is one: [prefix + T]."""
    if prefix:
        return np.eye(1, len(there) + 1)[0]
    if name in seen.pools:
        return seen.pool(name, row, len(there))
    return there / max(there.sum(), 1)


def _joint(seen: _Seen, config: VideoConfig, scale: int, there: np.ndarray) -> np.ndarray:
    time, cells = config.encoder.grid[0], config.encoder.grid[1] * config.encoder.grid[2]
    reads = _read_by(seen, "encoder.pool", scale, np.repeat(there, cells), config.prefix)
    rolled = reads @ seen.rolled("encoder.stack", scale, len(reads))
    return rolled[config.prefix :].reshape(time, cells)


def _space(seen: _Seen, config: VideoConfig, scale: int) -> np.ndarray:
    """What the vector of each moment reads of its tokens, [P, N]; each moment adds up to 1."""
    time, cells = config.encoder.grid[0], config.encoder.grid[1] * config.encoder.grid[2]
    found = []
    for row in range(scale * time, (scale + 1) * time):
        reads = _read_by(seen, "encoder.space.pool", row, np.ones(cells, bool), config.prefix)
        rolled = (reads @ seen.rolled("encoder.space.stack", row, len(reads)))[config.prefix :]
        found.append(rolled / max(rolled.sum(), 1e-12))
    return np.stack(found)


def _factorised(seen: _Seen, config: VideoConfig, scale: int, there: np.ndarray) -> np.ndarray:
    reads = _read_by(seen, "encoder.pool", scale, there, config.prefix)
    moments = (reads @ seen.rolled("encoder.time", scale, len(reads)))[config.prefix :]
    return moments[:, None] * _space(seen, config, scale)


def _pooled(seen: _Seen, config: VideoConfig, scale: int, there: np.ndarray) -> np.ndarray:
    moments = _read_by(seen, "encoder.pool", scale, there, 0)
    return moments[:, None] * _space(seen, config, scale)


def _frame(seen: _Seen, config: VideoConfig, scale: int, there: np.ndarray) -> np.ndarray:
    return _space(seen, config, scale)


def _divided(seen: _Seen, config: VideoConfig, scale: int, there: np.ndarray) -> np.ndarray:
    """Each layer is attention over time, then over space, as matrices over all tokens of the clip."""
    time, cells = config.encoder.grid[0], config.encoder.grid[1] * config.encoder.grid[2]
    prefix, tokens = config.prefix, time * cells
    total = np.eye(prefix + tokens)
    for layer in range(config.encoder.layers):
        found = {
            name: weights for name, weights in seen.layers if name.startswith(f"encoder.blocks.{layer}.")
        }
        over_time = found[f"encoder.blocks.{layer}.time"].mean(1)[
            scale * cells : (scale + 1) * cells
        ]  # [N, P, P]
        over_space = found[f"encoder.blocks.{layer}.space"].mean(1)[scale * time : (scale + 1) * time]
        step = np.eye(prefix + tokens)
        joined = np.zeros((time, cells, time, cells))
        joined[:, np.arange(cells), :, np.arange(cells)] = over_time  # [N, P, P]
        step[prefix:, prefix:] = 0.5 * step[prefix:, prefix:] + 0.5 * joined.reshape(tokens, tokens)
        total = step @ total
        joined = np.zeros((time, cells, time, cells))
        joined[np.arange(time), :, np.arange(time), :] = over_space[:, prefix:, prefix:]  # [P, N, N]
        step = np.eye(prefix + tokens)
        step[prefix:, prefix:] = 0.5 * step[prefix:, prefix:] + 0.5 * joined.reshape(tokens, tokens)
        if prefix:
            weight = there / max(there.sum(), 1)  # the class token is the mean of what moments made of it
            step[0, prefix:] = 0.5 * (weight[:, None] * over_space[:, 0, 1:]).reshape(-1)
            step[0, 0] = 0.5 + 0.5 * float(weight @ over_space[:, 0, 0])
            step[prefix:, 0] = 0.5 * over_space[:, 1:, 0].reshape(-1)
        total = step @ total
    reads = _read_by(seen, "encoder.pool", scale, np.repeat(there, cells), prefix)
    return (reads @ total)[prefix:].reshape(time, cells)


_READS = {
    "joint": _joint,
    "factorised": _factorised,
    "divided": _divided,
    "pooled": _pooled,
    "frame": _frame,
}
