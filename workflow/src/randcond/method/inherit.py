"""Narrower students that inherit the teacher's channels: which ones to keep, and every layer cut to them.

A channel belongs to a *set*: layers whose outputs are added together, or that work on one tensor, share one choice.
The sets are the residual stream of each width, the inside of each resnet, and of each attention its stream, its heads
(of keys, of values) and its hidden layer. Of a set that a group norm looks at, each group keeps as many, and so does
each head; a group of two sets side by side, as behind a skip, may come to hold a neighbour of the other's.
Diff-Pruning (arXiv:2305.10924) is the precedent for diffusion models.
"""

import re
from collections.abc import Iterable
from itertools import accumulate

import torch
from diffusers import UNet2DConditionModel

from randcond.jobs.errors import UserError

Names = list[str | None]  # sets that lie side by side in a dimension of a weight; None: kept whole
Sets = list[Names]  # of each dimension of a weight


def inherit(
    teacher: UNet2DConditionModel, student: UNet2DConditionModel, importance: dict[str, torch.Tensor] | None = None
) -> None:
    """Give a narrower student of the same layers the teacher's most important channels.

    Args:
        teacher: The teacher's UNet.
        student: The student's, with the same blocks.
        importance: Of each of the teacher's weights, by name and in its shape; none: their squares.

    Raises:
        UserError: If the two have other blocks or other numbers of heads.
    """
    check_heirs(teacher, student)
    theirs, mine = teacher.state_dict(), student.state_dict()
    sets = {name: sets_of(name, tensor, teacher) for name, tensor in theirs.items()}
    importance = importance or {name: tensor.float().square() for name, tensor in theirs.items()}
    wide, narrow = widths(sets, theirs), widths(sets, mine)
    chosen = choose(sets, importance, wide, narrow, parts_of(teacher))
    student.load_state_dict({name: cut(theirs[name], sets[name], chosen, wide).to(mine[name]) for name in mine})


def check_heirs(teacher: UNet2DConditionModel, student: UNet2DConditionModel, name: str = "the student") -> None:
    """Whether a student can inherit the teacher's channels; its weights may be none (on the meta device).

    Raises:
        UserError: If the two have other blocks or other numbers of heads.
    """
    if teacher.state_dict().keys() != student.state_dict().keys():
        raise UserError(f"init: only a student with all of the teacher's blocks can inherit its channels, not {name}")
    for part, module in teacher.named_modules():
        if part.endswith((".attn1", ".attn2")) and module.heads != student.get_submodule(part).heads:
            raise UserError(
                f"init: {name} has other numbers of heads than the teacher ({part}) and cannot inherit its channels;"
                " give it random ones"
            )


def first_order(teacher: UNet2DConditionModel, losses: Iterable[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Importance of weights by what a loss would change without them, to first order: (weight x gradient)^2.

    Args:
        teacher: The teacher's UNet; its weights are left as they are.
        losses: Scalars that are computed with it, summed up one after another.
    """
    teacher.requires_grad_(True)
    try:
        for loss in losses:
            loss.backward()
        return {name: (p.detach() * p.grad).square() for name, p in teacher.named_parameters() if p.grad is not None}
    finally:
        teacher.requires_grad_(False)
        teacher.zero_grad(set_to_none=True)


def sets_of(name: str, tensor: torch.Tensor, unet: UNet2DConditionModel) -> Sets:
    """The sets of channels along each dimension of a weight, by its name in a UNet of Stable Diffusion's layout."""
    streams: list[str] = []
    for level, width in enumerate(unet.config["block_out_channels"]):
        # a block as wide as the one before it adds to what it was given: one stream
        same = level > 0 and width == unet.config["block_out_channels"][level - 1]
        streams.append(streams[-1] if same else f"level {level}")
    out, into = _out_and_in(name.split("."), streams, unet.config["layers_per_block"])
    dimensions: Sets = [out, into, [None], [None]]
    return dimensions[: tensor.ndim]


def _out_and_in(parts: list[str], streams: list[str], layers: int) -> tuple[Names, Names]:
    """Sets of a layer's outputs, which a norm's weights and a bias follow too, and of its inputs."""
    ends: dict[str, tuple[Names, Names]] = {
        "time_embedding.linear_1": (["time inside"], ["waves"]),
        "time_embedding.linear_2": (["time"], ["time inside"]),
        "add_embedding.linear_1": (["added inside"], [None]),
        "add_embedding.linear_2": (["time"], ["added inside"]),
        "conv_in": ([streams[0]], [None]),
        "conv_norm_out": ([streams[0]], []),
        "conv_out": ([None], [streams[0]]),
    }
    if (layer := ".".join(parts[:-1])) in ends:
        return ends[layer]
    level = len(streams) - 1
    if parts[0] != "mid_block":
        level = int(parts[1]) if parts[0] == "down_blocks" else level - int(parts[1])
    start = 1 if parts[0] == "mid_block" else 2
    place, stream = ".".join(parts[: start + 2]), _names(streams[level])
    if parts[start] == "resnets":
        return _of_resnet(parts[-2], place, stream, _entering(parts, level, streams, layers))
    if parts[start] == "attentions":
        return _of_attention(parts[start + 2 :], place, stream)
    return stream, stream  # a down- or upsampler


def _entering(parts: list[str], level: int, streams: list[str], layers: int) -> Names:
    """Sets of a resnet's input: the stream before it and, in an up block, what a down block has kept."""
    if parts[0] == "mid_block":
        return [streams[level]]
    first, last = parts[3] == "0", parts[3] == str(layers)
    if parts[0] == "down_blocks":
        return [streams[max(level - first, 0)]]
    # the last one takes what entered the down block
    return [streams[min(level + first, len(streams) - 1)], streams[max(level - last, 0)]]


def _names(*names: str) -> Names:
    return list(names)


def _of_resnet(layer: str, place: str, stream: Names, entering: Names) -> tuple[Names, Names]:
    inside: Names = [place]
    found: dict[str, tuple[Names, Names]] = {
        "norm1": (entering, []),
        "conv1": (inside, entering),
        "time_emb_proj": (inside, ["time"]),
        "norm2": (inside, []),
        "conv2": (stream, inside),
        "conv_shortcut": (stream, entering),
    }
    return found[layer]


def _of_attention(parts: list[str], place: str, stream: Names) -> tuple[Names, Names]:
    inside: Names = [f"{place} inside"]
    if parts[0] != "transformer_blocks":
        return {"norm": (stream, []), "proj_in": (inside, stream), "proj_out": (stream, inside)}[parts[0]]
    block = f"{place} {parts[1]}"
    if parts[2].startswith("norm"):
        return inside, []
    if parts[2] == "ff":
        hidden: str | None = f"{block} hidden"
        return ([hidden, hidden], inside) if parts[5] == "proj" else (inside, [hidden])  # GEGLU: values, then gates
    keys: Names = [f"{block} {parts[2]} keys"]
    values: Names = [f"{block} {parts[2]} values"]
    source: Names = inside if parts[2] == "attn1" else [None]
    found: dict[str, tuple[Names, Names]] = {
        "to_q": (keys, inside),
        "to_k": (keys, source),
        "to_v": (values, source),
        "to_out": (inside, values),
    }
    return found[parts[3]]


def widths(sets: dict[str, Sets], tensors: dict[str, torch.Tensor]) -> dict[str, int]:
    """Channels of each set, by weights of one UNet.

    A set is told by a dimension that it has to itself, or shares with itself alone.
    """
    found: dict[str, int] = {}
    for name, dimensions in sets.items():
        for size, inside in zip(tensors[name].shape, dimensions, strict=True):
            if inside and inside[0] is not None and len(set(inside)) == 1:
                found[inside[0]] = size // len(inside)
    return found


def parts_of(teacher: UNet2DConditionModel) -> dict[str, int]:
    """Of sets whose channels are dealt with in parts, their number: heads of attentions, groups of norms."""
    found: dict[str, int] = {}
    for name, module in teacher.named_modules():
        if name.endswith((".attn1", ".attn2")):
            place = name.replace(".transformer_blocks.", " ").replace(".attn", " attn")
            found |= {f"{place} {kind}": module.heads for kind in ("keys", "values")}
    groups = teacher.config["norm_num_groups"]
    levels = {f"level {level}": groups for level in range(len(teacher.down_blocks))}
    resnets = {name: groups for name, _ in teacher.named_modules() if re.fullmatch(r".*\.resnets\.\d+", name)}
    return found | levels | resnets


def choose(
    sets: dict[str, Sets],
    importance: dict[str, torch.Tensor],
    wide: dict[str, int],
    narrow: dict[str, int],
    parts: dict[str, int],
) -> dict[str, torch.Tensor]:
    """The channels that are kept of each set, in the teacher's order: set -> int64 (width,).

    A channel is as important as all weights that write or read it together.
    """
    total = {name: torch.zeros(width) for name, width in wide.items()}
    for name, values in importance.items():
        for dimension, inside in enumerate(sets[name]):
            names = [name for name in inside if name is not None]
            if not names:
                continue
            sums = values.float().movedim(dimension, 0).reshape(values.shape[dimension], -1).sum(1).cpu()
            for one, piece in zip(names, sums.split([wide[one] for one in names]), strict=True):
                total[one] += piece
    chosen = {}
    for name, scores in total.items():
        if name == "waves":
            chosen[name] = _waves(wide[name], narrow[name])
            continue
        pieces = parts.get(name, 1)
        best = scores.view(pieces, -1).topk(narrow[name] // pieces, dim=1).indices.sort(1).values
        chosen[name] = (best + torch.arange(pieces)[:, None] * (wide[name] // pieces)).flatten()
    return chosen


def _waves(wide: int, narrow: int) -> torch.Tensor:
    """The timestep's sines and cosines have fewer frequencies over the same range: those that lie nearest."""
    half, fewer = wide // 2, narrow // 2
    nearest = (torch.arange(fewer) * half / fewer).round().long().clamp(max=half - 1)
    odd = torch.zeros(narrow % 2, dtype=torch.long)  # diffusers fills an odd width up with nothing
    return torch.cat([nearest, nearest + half, odd])


def cut(tensor: torch.Tensor, sets: Sets, chosen: dict[str, torch.Tensor], wide: dict[str, int]) -> torch.Tensor:
    """A weight with the chosen channels alone. Nothing is scaled for the fewer inputs: that is worse (docs/log.md)."""
    for dimension, inside in enumerate(sets):
        names = [name for name in inside if name is not None]
        if not names:
            continue
        starts = [0, *accumulate(wide[name] for name in names)]
        places = torch.cat([chosen[name] + start for name, start in zip(names, starts, strict=False)])
        tensor = tensor.index_select(dimension, places.to(tensor.device))
    return tensor
