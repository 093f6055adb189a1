"""A tiny paper's world: archives, captions, tables and random weights of the real classes."""

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from cleanfid.inception_pytorch import FIDInceptionA  # noqa: F401 - the loader's own module
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from randcond.scores.inception import CLEAN, LEGACY, LOGITS

ANIMALS = ["A dog on a hill", "two cats, sleeping", "a herd of sheep", "The horse runs"]
THINGS = ["a red bus", "A plate of food", "hot dog on a bun", "an old, small house", "people at the beach"]


def picture(seed: int, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def table(rows: list[tuple[str, str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerows([("file_name", "text"), *rows])
    return buffer.getvalue()


def write_sources(folder: Path) -> dict[str, Path]:
    """All that the prompts and images of the world are read from; 9 captions, 6 + 2 evaluation prompts, 40 texts."""
    captions = [(f"{i:03d}.jpg", text) for i, text in enumerate(ANIMALS[:2] + THINGS + ANIMALS[2:])]
    with zipfile.ZipFile(folder / "captions.zip", "w") as archive:
        archive.writestr("preprocessed/metadata.csv", table(captions))
        for i, (name, _) in enumerate(captions):
            archive.writestr(f"preprocessed/train/{name}", picture(i))
    names = [f"COCO_val2014_{i:012d}.jpg" for i in range(8)]
    benchmark = list(zip(names[:6], [ANIMALS[0], THINGS[0], ANIMALS[1], THINGS[1], THINGS[0], ANIMALS[2]], strict=True))
    (folder / "evaluation").mkdir()
    (folder / "evaluation/metadata.csv").write_text(table(benchmark))
    annotations = [{"image_id": 10 * i, "id": 100 - i, "caption": f"second caption of a cow {i}"} for i in range(8)]
    annotations += [{"image_id": 10 * i, "id": i, "caption": f"a first  caption of car {i}\n"} for i in range(8)]
    content = {
        "images": [{"id": 10 * i, "file_name": name} for i, name in enumerate(names)],
        "annotations": annotations,
    }
    with zipfile.ZipFile(folder / "annotations.zip", "w") as archive:
        archive.writestr("annotations/captions_val2014.json", json.dumps(content))
        archive.writestr("annotations/captions_train2014.json", "{}")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(f"val2014/{name}", picture(100 + i, mode="L" if i == 3 else "RGB"))
    (folder / "texts").mkdir()
    for part in range(2):
        values = [f"a text of the web {i}" for i in range(20 * part, 20 * part + 20)] + [None, ""]
        pq.write_table(pa.table({"TEXT": pa.array(values)}), folder / "texts" / f"{part}.parquet")
    found = {name: folder / f"{name}.zip" for name in ("captions", "annotations", "photos")}
    return found | {"evaluation": folder / "evaluation", "texts": folder / "texts"}


class StandIn(nn.Module):
    """What clean-fid's mode clean needs of its TorchScript file, at a thousandth of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(23), nn.Flatten(), nn.Linear(3 * 13 * 13, 2048))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def write_inception(folder: Path) -> Path:
    """Random weights of the real Inception for clean-fid's legacy mode and for torch-fidelity; a stand-in for clean."""
    torch.manual_seed(3)
    (folder / LEGACY).parent.mkdir(parents=True)
    bare = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
    saved: dict[str, torch.Tensor] = {}

    class UnloadedError(Exception):
        """Ends the constructor where it would read weights."""

    def stop(self: nn.Module, *_: object, **__: object) -> None:
        saved.update(self.state_dict())
        raise UnloadedError

    original = FeatureExtractorInceptionV3.load_state_dict
    FeatureExtractorInceptionV3.load_state_dict = stop
    try:
        torch.save({}, folder / LOGITS)
        bare.__init__("x", ["2048"], feature_extractor_weights_path=str(folder / LOGITS))
    except UnloadedError:
        pass
    finally:
        FeatureExtractorInceptionV3.load_state_dict = original
    for tensor in saved.values():
        if tensor.dim() == 4:
            nn.init.kaiming_normal_(tensor)  # or nothing would be left of an image after so many layers
    torch.save(saved, folder / LOGITS)
    torch.save(saved, folder / LEGACY)
    torch.jit.script(StandIn().eval()).save(str(folder / CLEAN))
    return folder


def write_clip(folder: Path) -> Path:
    """A tiny open_clip model of the real classes, with CLIP's own tokenizer."""
    torch.manual_seed(4)
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 8, "head_width": 8, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
    }
    model = open_clip.CLIP(**config)
    mean = [0.48145466, 0.4578275, 0.40821073]
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": mean, "std": [0.26862954, 0.26130258, 0.27577711]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder
