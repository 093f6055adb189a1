"""Floating-point operations and bytes of a teacher's stages, counted on models without memory."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from randcond.jobs.errors import UserError, reading
from randcond.method.losses import FeatureLoss, captured
from randcond.method.student import count_parameters, feature_pairs, student_of_config
from randcond.planning import sd3, sd14, sdxl
from randcond.settings.config import Config
from randcond.teachers.families import family_of
from randcond.teachers.pipelines import teacher_type

_TOKENS, _T5 = 77, 256  # of a text, by CLIP and by T5


def flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of a call (a multiply-add counts two), by torch's counter."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


class Models:
    """A teacher's models and its students at true size, without memory.

    Args:
        unet: Makes the denoiser, which goes by that name whatever it is; the others likewise.
        vae: The autoencoder.
        text: The text encoders.
    """

    def __init__(self, unet: Callable[[], Any], vae: Callable[[], Any], text: Callable[[], Any]) -> None:
        with torch.device("meta"):
            encoders = text()
            encoders = nn.ModuleList(encoders if isinstance(encoders, list) else [encoders])
            self._parts = {"unet": unet().eval(), "vae": vae().eval(), "text": encoders.eval()}
        config = self._parts["unet"].config
        self._t5 = any(not hasattr(encoder.config, "max_position_embeddings") for encoder in encoders)
        self._flow = "joint_attention_dim" in config
        self.latent = (config["in_channels"], config["sample_size"], config["sample_size"])
        self.pixels = config["sample_size"] * 2 ** (len(self._parts["vae"].config["block_out_channels"]) - 1)
        self._counted: dict[tuple[Any, ...], int] = {}

    @property
    def latent_bytes(self) -> int:
        """Of a latent in 16 bits."""
        channels, height, width = self.latent
        return 2 * channels * height * width

    def unet(self, name: str) -> Any:
        """The teacher's UNet, by the name ``unet``, or a student's."""
        if name not in self._parts:
            self._parts[name] = student_of_config(dict(self._parts["unet"].config), name)
        return self._parts[name]

    def parameters(self, name: str) -> int:
        """Parameters of ``unet``, ``vae``, ``text`` or a student."""
        return count_parameters(self.unet(name))

    def _once(self, count: Callable[[], int], *key: Any) -> int:
        if key not in self._counted:
            self._counted[key] = count()
        return self._counted[key]

    def _predict(self, unet: nn.Module) -> torch.Tensor:
        with torch.device("meta"):
            latents, conditions = torch.empty(1, *self.latent), _conditions(self._parts["unet"].config, self._t5)
            output: torch.Tensor = unet(latents, timestep=torch.ones(1), **conditions).sample
        return output

    def prediction_flops(self, name: str) -> int:
        """One prediction of the teacher (``unet``) or a student for one latent."""
        with torch.no_grad():
            return self._once(lambda: flops(lambda: self._predict(self.unet(name))), "prediction", name)

    def text_flops(self) -> int:
        """One text through the text encoders."""

        def run() -> None:
            for encoder in self._parts["text"]:
                encoder(torch.ones(1, getattr(encoder.config, "max_position_embeddings", _T5), dtype=torch.long))

        with torch.no_grad(), torch.device("meta"):
            return self._once(lambda: flops(run), "text")

    def decode_flops(self) -> int:
        """One latent to its image."""
        with torch.no_grad(), torch.device("meta"):
            latents = torch.empty(1, *self.latent)
            return self._once(lambda: flops(lambda: self._parts["vae"].decode(latents)), "decode")

    def step_flops(self, name: str, checkpointing: bool) -> int:
        """One training pair: text, teacher, the student forwards and backwards (forwards twice with checkpointing)."""
        unet = self.unet(name).train()
        both = self._once(lambda: flops(lambda: self._predict(unet).sum().backward()), "both", name)
        again = self.prediction_flops(name) if checkpointing else 0
        return self.text_flops() + self.prediction_flops("unet") + both + again

    def faster_flops(self, name: str, checkpointing: bool) -> int:
        """One pair on which a student is made faster: itself with guidance as its teacher, and as its target, in the
        place of the teacher's prediction."""
        own = 3 * self.prediction_flops(name)
        return self.step_flops(name, checkpointing) - self.prediction_flops("unet") + own

    def image_flops(self, name: str, steps: int, guided: bool = True) -> int:
        """One image: two predictions a step with guidance, one step more for PNDM's start, else one; and decoding."""
        once = self.prediction_flops(name)
        if not guided:
            return steps * once + self.decode_flops() + self.text_flops()
        return 2 * (steps + (not self._flow)) * once + self.decode_flops() + 2 * self.text_flops()

    def saved_bytes(self, name: str, checkpointing: bool) -> int:
        """Bytes that a student keeps for the backward pass of one pair in 16 bits, its weights not counted."""
        return self._once(lambda: self._saved(name, checkpointing), "saved", name, checkpointing)

    def _saved(self, name: str, checkpointing: bool) -> int:
        unet = self.unet(name).train()
        getattr(unet, "enable_gradient_checkpointing" if checkpointing else "disable_gradient_checkpointing")()
        weights = {id(parameter) for parameter in unet.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in weights:
                kept[id(tensor)] = 2 * tensor.numel()
                alive.append(tensor)
            return tensor

        alive: list[torch.Tensor] = []  # so that no id comes twice
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self._predict(unet)
        unet.disable_gradient_checkpointing()
        return sum(kept.values())

    def projections(self, name: str) -> int:
        """Parameters of what brings a narrower student's outputs to the teacher's width, if blocks are compared."""
        pairs = feature_pairs(self.unet("unet"), self.unet(name), name)
        with torch.device("meta"):
            return count_parameters(FeatureLoss(self.unet("unet"), self.unet(name), pairs))

    def compared(self, name: str) -> int:
        """Numbers in the outputs of both, the teacher and a student, that are compared of one pair, if blocks are."""

        def count() -> int:
            pairs = feature_pairs(self.unet("unet"), self.unet(name), name)
            total = 0
            for model, names in zip(("unet", name), zip(*pairs, strict=True), strict=True):
                with captured(self.unet(model), list(names)) as outputs:
                    self._predict(self.unet(model))
                total += sum(output.numel() for output in outputs.values())
            return total

        with torch.no_grad():
            return self._once(count, "compared", name)


def _conditions(config: Any, t5: bool) -> dict[str, Any]:
    """What a denoiser takes of one text, on the current device."""
    if "joint_attention_dim" in config:
        # without T5 its tokens are zeros (teachers/sd3.py)
        states = torch.empty(1, _TOKENS + (_T5 if t5 else _TOKENS), config["joint_attention_dim"])
        return {"encoder_hidden_states": states, "pooled_projections": torch.empty(1, config["pooled_projection_dim"])}
    states = torch.empty(1, _TOKENS, config["cross_attention_dim"])
    if config["addition_embed_type"] != "text_time":
        return {"encoder_hidden_states": states}
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    added = {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}
    return {"encoder_hidden_states": states, "added_cond_kwargs": added}


@cache
def stable_diffusion() -> Models:
    """Stable Diffusion v1.4's."""
    return Models(sd14.unet, sd14.vae, sd14.text_encoder)


@cache
def stable_diffusion_xl() -> Models:
    """SDXL base's."""
    return Models(sdxl.unet, sdxl.vae, sdxl.text_encoders)


@cache
def stable_diffusion_3() -> Models:
    """SD3 medium's, without T5."""
    return Models(sd3.transformer, sd3.vae, sd3.text_encoders)


@cache
def of_folder(folder: Path) -> Models:
    """Those of a pipeline's folder, of which the configurations alone are read.

    Raises:
        UserError: If one of them is missing, or is of no known family.
    """
    family = family_of(folder)
    kind = teacher_type(family)

    def config(part: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / part / "config.json").read_text())
        return found

    def encoder(part: str) -> Any:
        found = config(part)
        model = getattr(transformers, found["architectures"][0])
        return model(model.config_class.from_dict(found))

    parts = [part for part in kind.encoders if part not in kind.optional or (folder / part).is_dir()]
    with reading(folder, f"a {kind.title} pipeline with its configurations", broken="look into it"):
        return Models(
            lambda: kind.denoiser_type.from_config(config(family.denoiser)),
            lambda: AutoencoderKL.from_config(config("vae")),
            lambda: [encoder(part) for part in parts],
        )


_ASSETS = "results/assets/"
_KNOWN: dict[str, Callable[[], Models]] = {  # assets whose sizes are known before they are fetched
    "stable-diffusion-v1-4": stable_diffusion,
    "stable-diffusion-v1-4-layout": stable_diffusion,
    "stable-diffusion-xl-base-1-0": stable_diffusion_xl,
    "stable-diffusion-3-medium": stable_diffusion_3,
}


def models_of(config: Config) -> Models:
    """The teacher's models: those of a known asset, or laid out by it, else as its folder says.

    Raises:
        UserError: If that folder is not there yet, or is of another family.
    """
    described = config.layout or config.teacher
    known = _KNOWN.get(described.removeprefix(_ASSETS))
    if described.startswith(_ASSETS) and known is not None:
        return known()
    if not Path(described).exists():
        raise UserError(f"config: teacher: {described} is not there; fetch it first, its sizes are not known otherwise")
    return of_folder(Path(described))
