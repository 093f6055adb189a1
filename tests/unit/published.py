"""What config/assets.yaml lists, published in miniature: every asset with exactly the files that it names.

Each asset has a function that writes whatever the originals hold, at a thousandth of the size; the files are then laid
out as the list says, and fetched by the project's own code (hub repositories, which need a network, are copied).
"""

import csv
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import UNet2DConditionModel
from paper_world import ANIMALS, THINGS, picture, table, write_clip, write_inception
from safetensors.torch import load_file, save_file
from tiny_pipelines import tiny, tiny_unet
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from randcond.assets.fetch import fetch
from randcond.assets.listing import Asset, read_assets
from randcond.make_teacher.clip import build_tokenizer

ROOT = Path(__file__).parents[2]
ASSETS = read_assets(ROOT / "config/assets.yaml")
CAPTIONS = [*ANIMALS[:2], *THINGS, *ANIMALS[2:]]
BENCHMARK = [ANIMALS[0], THINGS[0], ANIMALS[1], THINGS[1], THINGS[0], ANIMALS[2]]
PHOTOS = [f"COCO_val2014_{i:012d}.jpg" for i in range(8)]


def slow_tokenizer(folder: Path) -> None:
    """A slow tokenizer's files in the place of a fast one's."""
    tokenizer = build_tokenizer(CAPTIONS, vocabulary=600)
    shutil.rmtree(folder)
    folder.mkdir()
    content = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(content["vocab"]))
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in content["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def stable_diffusion(folder: Path, pipeline: Path) -> None:
    """The tiny pipeline with a slow tokenizer's files and an index that names parts we do not fetch."""
    shutil.copytree(pipeline, folder, dirs_exist_ok=True)
    slow_tokenizer(folder / "tokenizer")
    index = json.loads((folder / "model_index.json").read_text())
    more = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    more["feature_extractor"] = ["transformers", "CLIPFeatureExtractor"]
    (folder / "model_index.json").write_text(json.dumps(index | more))


def stable_diffusion_2(folder: Path, pipeline: Path) -> None:
    """The same with SD 2.1's differences: v-prediction, linear projections, more heads in wider blocks."""
    stable_diffusion(folder, pipeline)
    scheduler = folder / "scheduler/scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}))
    plain = {name: value for name, value in tiny_unet().config.items() if name[0] != "_"}  # or defaults win
    config = plain | {"use_linear_projection": True, "attention_head_dim": [5, 10, 20, 20]}
    torch.manual_seed(6)
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")


def newer(folder: Path, family: str) -> None:
    """SDXL or SD3, whose index names T5, which we do not fetch."""
    tiny(family, folder)
    for name in ("tokenizer", "tokenizer_2"):
        slow_tokenizer(folder / name)
    if family == "sd3":
        index = json.loads((folder / "model_index.json").read_text())
        more = {
            "text_encoder_3": ["transformers", "T5EncoderModel"],
            "tokenizer_3": ["transformers", "T5TokenizerFast"],
        }
        (folder / "model_index.json").write_text(json.dumps(index | more))


def clip(folder: Path) -> None:
    """open_clip's older format: a pickle of plain tensors."""
    write_clip(folder)
    torch.save(load_file(folder / "open_clip_model.safetensors"), folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_model.safetensors").unlink()


def laion_aesthetics(folder: Path) -> None:
    """A .tar.gz of images and metadata.csv."""
    names = [f"{i:03d}.jpg" for i in range(len(CAPTIONS))]
    files = {"metadata.csv": table(list(zip(names, CAPTIONS, strict=True))).encode()}
    files |= {f"train/{name}": picture(i) for i, name in enumerate(names)}
    with tarfile.open(folder / "preprocessed_212k.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"preprocessed_212k/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def coco_captions(folder: Path) -> None:
    """BK-SDM's captions."""
    with open(folder / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file_name", "text"), *zip(PHOTOS[:6], BENCHMARK, strict=True)])


def coco_annotations(folder: Path) -> None:
    """COCO's own captions, in its zip."""
    annotations = [{"image_id": 10 * i, "id": i, "caption": f"a first caption of car {i}"} for i in range(8)]
    images = [{"id": 10 * i, "file_name": name} for i, name in enumerate(PHOTOS)]
    with zipfile.ZipFile(folder / "annotations_trainval2014.zip", "w") as archive:
        content = json.dumps({"images": images, "annotations": annotations})
        archive.writestr("annotations/captions_val2014.json", content)
        archive.writestr("annotations/instances_val2014.json", "{}")


def coco_photos(folder: Path) -> None:
    """The photos, in their zip."""
    with zipfile.ZipFile(folder / "val2014.zip", "w") as archive:
        for i, name in enumerate(PHOTOS):
            archive.writestr(f"val2014/{name}", picture(100 + i))


def language_model(folder: Path) -> None:
    """A sharded causal model with a fast tokenizer."""
    tokenizer = build_tokenizer(CAPTIONS, vocabulary=600)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(folder)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(5)
    Qwen2ForCausalLM(Qwen2Config(vocab_size=len(fast), num_key_value_heads=1, **size)).save_pretrained(folder)
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, shards = sorted(whole), 4
    held = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(names)}
    for file in set(held.values()):
        part = {name: whole[name] for name in names if held[name] == file}
        save_file(part, folder / file, {"format": "pt"})
    total = sum(tensor.numel() * 4 for tensor in whole.values())
    index = {"metadata": {"total_size": total}, "weight_map": held}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "merges.txt").write_text("")
    (folder / "vocab.json").write_text("{}")


def laion_texts(folder: Path) -> None:
    """As many parts as are listed, with missing texts among them."""
    for part, file in enumerate(ASSETS["laion-400m"].files):
        values = [f"a text of the web {part} {i}" for i in range(3)] + [None, ""]
        pq.write_table(pa.table({"TEXT": pa.array(values)}), folder / file.path)


def writers(pipeline: Path) -> dict[str, Callable[[Path], object]]:
    """Asset -> what writes its files."""
    return {
        "stable-diffusion-v1-4": lambda folder: stable_diffusion(folder, pipeline),
        "stable-diffusion-v1-4-layout": lambda folder: stable_diffusion(folder, pipeline),
        "stable-diffusion-2-1": lambda folder: stable_diffusion_2(folder, pipeline),
        "stable-diffusion-xl-base-1-0": lambda folder: newer(folder, "sdxl"),
        "stable-diffusion-3-medium": lambda folder: newer(folder, "sd3"),
        "clip-vit-g-14": clip,
        "inception": write_inception,
        "laion-aesthetics-212k": laion_aesthetics,
        "mscoco-30k": coco_captions,
        "mscoco-annotations": coco_annotations,
        "mscoco-val2014": coco_photos,
        "llm": language_model,
        "laion-400m": laion_texts,
    }


def fetch_all(folder: Path, pipeline: Path) -> dict[str, Path]:
    """Publish every asset in ``folder`` and fetch it; name -> its folder, ``results/assets/<name>`` below."""
    found = {}
    for name, write in writers(pipeline).items():
        source = folder / "published" / name
        source.mkdir(parents=True)
        write(source)
        asset, found[name] = ASSETS[name], folder / "results/assets" / name
        if asset.repository is not None:
            for file in asset.files:
                (found[name] / file.path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / file.path, found[name] / file.path)
            continue
        # the list's hashes are of the originals
        files = [{"path": file.path, "url": (source / file.path).as_uri()} for file in asset.files]
        local = Asset.model_validate(asset.model_dump() | {"gigabytes": 0.3, "files": files})  # Inception's size
        fetch(name, local, found[name], folder / "downloads" / name, folder / "lock.json")
    return found
