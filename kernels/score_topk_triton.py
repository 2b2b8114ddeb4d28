"""The Triton half of `score_topk`: scores stay in registers, the few that matter become keys.

A key is int64: the score's bits, ordered as an integer, above the complement of the index. So
keys are distinct, the larger key is the better item, and ties need no code of their own.
A program scores one block of users against one slice of the items, tile by tile, and keeps K keys
a user, in no order. A tile's largest score per user is compared with the user's least key; while
one is larger it replaces that key and leaves the tile. Most tiles pass none. Items ascend, so a
score equal to the least one loses, as it must. Then `merge_kernel` sorts the slices' keys, a few
lists at a time, down to one list a user.

How many slices there are changes no result: keys do not depend on it.
Settings are fixed per shape class; tests/kernels checks the registers, spills and shared memory
that they lead to on sm_90.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton
from triton import knobs

_LOWEST = tl.constexpr(-(2**31))  # ordered bits of no score: below those of -inf
_EMPTY = tl.constexpr(-(2**63))  # their key, and the least one
_MASK = tl.constexpr(0xFFFFFFFF)


@triton.jit
def _flipped(bits: tl.tensor) -> tl.tensor:
    """float32 bits as int32 in the order of the floats, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit(do_not_specialize=["user_count", "item_count", "slice_items"])
def score_topk_kernel(
    users_ptr: tl.tensor,
    items_ptr: tl.tensor,
    bias_ptr: tl.tensor,
    keys_ptr: tl.tensor,
    user_count: tl.tensor,
    item_count: tl.tensor,
    slice_items: tl.tensor,
    WIDTH: tl.constexpr,
    BIASED: tl.constexpr,
    K: tl.constexpr,
    BLOCK_U: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_P: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:
    """Program (i, j) takes the users of block j and the items of slice i: keys [U, slices, K]."""
    user = tl.program_id(1).to(tl.int64) * BLOCK_U + tl.arange(0, BLOCK_U)
    part = tl.program_id(0).to(tl.int64)
    lane, place = tl.arange(0, BLOCK_P), tl.arange(0, K)
    inside = (user < user_count)[:, None] & (lane < WIDTH)[None, :]
    users = tl.load(users_ptr + user[:, None] * WIDTH + lane[None, :], mask=inside, other=0.0)
    if UPCAST:
        users = users.to(tl.float32)

    best = tl.full([BLOCK_U, K], _EMPTY, tl.int64) + place[None, :]
    least = tl.min(best, axis=1)
    end = tl.minimum((part + 1) * slice_items, item_count)
    for start in range(part * slice_items, end, BLOCK_I):
        item = start + tl.arange(0, BLOCK_I)
        real = item < end
        there = real[None, :] & (lane < WIDTH)[:, None]
        tile = tl.load(items_ptr + item[None, :] * WIDTH + lane[:, None], mask=there, other=0.0)
        scores = tl.dot(users, tile.to(users.dtype), input_precision=PRECISION)
        if BIASED:
            scores += tl.load(bias_ptr + item, mask=real, other=0.0).to(tl.float32)[None, :]
        scores = tl.where(scores == 0.0, 0.0, scores)
        scores = tl.where(scores == scores, scores, float("-inf"))
        ordered = _flipped(scores.to(tl.int32, bitcast=True))
        ordered = tl.where(real[None, :], ordered, _LOWEST)

        largest = tl.max(ordered, axis=1)
        wins = largest > (least >> 32).to(tl.int32)
        while tl.max(wins.to(tl.int32), axis=0) > 0:
            found = ordered == largest[:, None]
            offset = tl.min(tl.where(found, tl.arange(0, BLOCK_I)[None, :], BLOCK_I), axis=1)
            key = (largest.to(tl.int64) << 32) | (_MASK - start - offset.to(tl.int64))
            replaced = (best == least[:, None]) & wins[:, None]
            best = tl.where(replaced, key[:, None], best)
            least = tl.min(best, axis=1)
            ordered = tl.where(tl.arange(0, BLOCK_I)[None, :] == offset[:, None], _LOWEST, ordered)
            largest = tl.max(ordered, axis=1)
            wins = largest > (least >> 32).to(tl.int32)

    target = (user[:, None] * tl.num_programs(0) + part) * K + place[None, :]
    tl.store(keys_ptr + target, best, mask=(user < user_count)[:, None])


@triton.jit(do_not_specialize=["lists"])
def merge_kernel(
    keys_ptr: tl.tensor,
    merged_ptr: tl.tensor,
    scores_ptr: tl.tensor,
    index_ptr: tl.tensor,
    lists: tl.tensor,
    WANTED: tl.constexpr,
    LAST: tl.constexpr,
    K: tl.constexpr,
    FAN: tl.constexpr,
) -> None:
    """Program (u, i): FAN lists of user u, from list i * FAN on, become one, best first.

    LAST: there is one program a user, and it writes scores and indices [U, WANTED] instead.
    """
    user, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = group * FAN * K + tl.arange(0, FAN * K)
    keys = tl.load(keys_ptr + user * lists * K + at, mask=at < lists * K, other=_EMPTY)
    best = tl.topk(keys, K)
    place = tl.arange(0, K)
    if LAST:
        ordered = (best >> 32).to(tl.int32)
        there = ordered != _LOWEST
        scores = _flipped(ordered).to(tl.float32, bitcast=True)
        target, wanted = user * WANTED + place, place < WANTED
        tl.store(scores_ptr + target, tl.where(there, scores, float("-inf")), mask=wanted)
        tl.store(index_ptr + target, tl.where(there, _MASK - (best & _MASK), -1), mask=wanted)
    else:
        tl.store(merged_ptr + (user * tl.num_programs(1) + group) * K + place, best)


@dataclass(frozen=True, slots=True)
class Settings:
    """One launch setting: users and items of a tile, warps of a program, stages of the fetch."""

    block_u: int
    block_i: int
    warps: int
    stages: int


# (bytes an element, few users or large K) -> settings for sm_90 (H100, H200).
SETTINGS = {
    (2, True): Settings(block_u=16, block_i=256, warps=8, stages=2),
    (2, False): Settings(block_u=64, block_i=64, warps=8, stages=2),
    (4, True): Settings(block_u=16, block_i=128, warps=8, stages=2),
    (4, False): Settings(block_u=32, block_i=64, warps=8, stages=2),
}
FEW_USERS = 32
K_WIDE = 64  # more than this many keys a user need the registers of a larger tile
PROGRAMS = 264  # two for each multiprocessor of an H100 or H200
_MERGED = 2048  # keys that one program sorts


def constants(width: int, users: int, k: int, element_bytes: int, biased: bool) -> dict[str, Any]:
    """The scoring kernel's compile-time arguments and launch options of one shape class."""
    chosen = SETTINGS[element_bytes, users <= FEW_USERS or k > K_WIDE]
    return {
        "WIDTH": width,
        "BIASED": biased,
        "K": max(8, triton.next_power_of_2(k)),
        "BLOCK_U": chosen.block_u,
        "BLOCK_I": chosen.block_i,
        "BLOCK_P": max(16, triton.next_power_of_2(width)),
        "PRECISION": "tf32x3",
        "UPCAST": knobs.runtime.interpret,
        "num_warps": chosen.warps,
        "num_stages": chosen.stages,
    }


def merge_constants(k: int, last: bool) -> dict[str, Any]:
    """The merging kernel's compile-time arguments and launch options."""
    kept = max(8, triton.next_power_of_2(k))
    fan = max(2, _MERGED // kept)
    return {"WANTED": k, "LAST": last, "K": kept, "FAN": fan, "num_warps": 4}


def _ceil(count: int, step: int) -> int:
    return -(-count // step)


def slices(users: int, items: int, block_u: int, block_i: int) -> tuple[int, int]:
    """(slices of the items, items of each): enough programs for the device, whole tiles."""
    wanted = max(1, PROGRAMS // max(1, _ceil(users, block_u)))
    tiles = max(1, _ceil(items, block_i))
    each = _ceil(tiles, min(wanted, tiles))
    return _ceil(tiles, each), each * block_i


@triton_op(  # pyright: ignore[reportUntypedFunctionDecorator]
    "predawn::score_topk", mutates_args=()
)
def score_topk_triton(
    users: Tensor, items: Tensor, bias: Tensor | None, k: int
) -> tuple[Tensor, Tensor]:
    """`score_topk` by the kernels; arguments are checked there and fit `SETTINGS`."""
    (count, width), total = users.shape, items.shape[0]
    scores = torch.empty(count, k, dtype=torch.float32, device=users.device)
    index = torch.empty(count, k, dtype=torch.int64, device=users.device)
    fixed = constants(width, count, k, users.element_size(), bias is not None)
    parts, each = slices(count, total, fixed["BLOCK_U"], fixed["BLOCK_I"])
    if not count:
        return scores, index

    keys = torch.empty(count, parts, fixed["K"], dtype=torch.int64, device=users.device)
    grid = (parts, _ceil(count, fixed["BLOCK_U"]))
    offsets = bias if bias is None else bias.contiguous()
    given = (users.contiguous(), items.contiguous(), offsets)
    wrap_triton(score_topk_kernel)[grid](*given, keys, count, total, each, **fixed)
    while True:
        settings = merge_constants(k, parts <= merge_constants(k, True)["FAN"])
        groups = _ceil(parts, settings["FAN"])
        merged = keys.new_empty(0 if settings["LAST"] else count * groups * fixed["K"])
        wrap_triton(merge_kernel)[(count, groups)](keys, merged, scores, index, parts, **settings)
        if settings["LAST"]:
            return scores, index
        keys, parts = merged, groups
