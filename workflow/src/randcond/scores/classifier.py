"""An evaluator without words: one of torchvision's classifiers, of which the features before the last layer are taken.

Its folder holds ``torchvision.json``, ``{"model": "resnet50"}``, and ``model.safetensors``, its state dict. The last
layer's weights are not read: it may have been trained to tell any things apart.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision import models

from randcond.jobs.errors import UserError
from randcond.jobs.stage import device
from randcond.scores.image_features import ImageFeatures

DESCRIBED, WEIGHTS = "torchvision.json", "model.safetensors"


class Classifier(ImageFeatures):
    """Loads the classifier from its folder.

    Raises:
        UserError: If the folder lacks a file, names no classifier of torchvision, or its weights are others'.
    """

    def __init__(self, folder: Path) -> None:
        name = _name(folder)
        model = models.get_model(name, weights=None)
        last = _without_last_layer(model, folder, name)
        try:
            weights = load_file(folder / WEIGHTS)
            model.load_state_dict({key: weights[key] for key in weights if not key.startswith(f"{last}.")})
        except FileNotFoundError:
            raise UserError(f"{folder}: no {WEIGHTS} there; save the classifier's state dict as one") from None
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{folder / WEIGHTS}: not the weights of {name} ({reason})") from None
        where = torch.device(device())
        model.to(where).eval().requires_grad_(False)
        super().__init__(model, models.get_model_weights(name).DEFAULT.transforms(), where)


def _name(folder: Path) -> str:
    known = models.list_models(module=models)
    try:
        name = json.loads((folder / DESCRIBED).read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        wanted = '{"model": "resnet50"}'
        raise UserError(f"{folder / DESCRIBED}: not as {wanted} ({error}); write it so") from None
    if name not in known:
        raise UserError(f"{folder / DESCRIBED}: {name!r} is no classifier of torchvision; there is {known[0]}, ...")
    return str(name)


def _without_last_layer(model: nn.Module, folder: Path, name: str) -> str:
    """Let the model give what its last linear layer is given; the name of that layer."""
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"{folder / DESCRIBED}: {name} does not end in a linear layer; name another classifier")
    owner, _, last = linear[-1].rpartition(".")
    setattr(model.get_submodule(owner), last, nn.Identity())
    return linear[-1]
