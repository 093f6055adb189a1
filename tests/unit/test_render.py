"""Latent shards, and images drawn from a pipeline."""

import argparse
import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_pipelines import every_family

from randcond.jobs.errors import UserError
from randcond.jobs.tensors import read_tensors, write_tensors
from randcond.prompts.table import read_prompts, write_prompts
from randcond.renders import render
from randcond.samples import draw as sample
from randcond.samples import real_images
from randcond.samples.images import stored, write_images
from randcond.students.data import LatentShards, Pairs
from randcond.teachers import pipelines
from randcond.teachers.families import denoiser_folder, family_of
from randcond.teachers.pipelines import decode, draw_latents, encode_images, load_pipeline
from randcond.teachers.teacher import Teacher
from randcond.worlds import emoji

LAST = dict.fromkeys(("unet", "denoiser"), "conv_out.bias") | {"transformer": "proj_out.bias"}  # of a denoiser


def shard(path: Path, first: int, n: int = 3, **changes: torch.Tensor) -> Path:
    tensors = {"latents": torch.randn(n, 4, 8, 8), "rows": torch.arange(first, first + n)}
    write_tensors(path, tensors | changes)
    return path


def test_reads_rows_of_all_shards(tmp_path: Path) -> None:
    latents = torch.randn(6, 4, 8, 8)
    paths = [shard(tmp_path / f"{k}", 3 * k, latents=latents[3 * k : 3 * k + 3].half()) for k in range(2)]
    shards = LatentShards(paths)
    assert len(shards) == 6
    assert shards.get([5, 0, 5]).dtype == torch.float32
    assert torch.equal(shards.get([5, 0, 5]), latents[[5, 0, 5]].half().float())


@pytest.mark.parametrize(
    "name", ["pickled", "cut", "header", "empty", "missing", "nan", "infinite", "gap", "order", "second", "names"]
)
def test_broken_shard_is_named(name: str, tmp_path: Path) -> None:
    good, bad = shard(tmp_path / "good", 0), tmp_path / f"bad-{name}.safetensors"
    latents = torch.randn(3, 4, 8, 8)
    paths = [bad]
    if name == "pickled":
        bad.write_bytes(pickle.dumps({"latents": [0.0]}))
    elif name in ("cut", "header", "empty"):
        bad.write_bytes(good.read_bytes()[: {"cut": -8, "header": 20, "empty": 0}[name]])
    elif name in ("nan", "infinite"):
        latents[1, 2, 3, 4] = float(name[:3])
        shard(bad, 0, latents=latents)
    elif name == "gap":
        paths = [good, shard(bad, 4)]
    elif name == "order":
        shard(bad, 0, rows=torch.tensor([1, 0, 2]))
    elif name == "second":
        shard(bad, 3)  # the one before it is not there
    elif name == "names":
        write_tensors(bad, {"pixels": latents, "rows": torch.arange(3)})
    with pytest.raises(UserError, match=f"bad-{name}") as caught:
        LatentShards(paths)
    assert "\n" not in str(caught.value)


@every_family
def test_latents_do_not_depend_on_the_batch(teacher: Teacher) -> None:
    texts = ["a tiger", "a bus", "a key"]
    options = {"seed": 5, "steps": 3, "guidance_scale": 3.0}
    whole = draw_latents(teacher.pipeline, texts, 0, **options)
    single = [draw_latents(teacher.pipeline, [text], i, **options) for i, text in enumerate(texts)]
    torch.testing.assert_close(torch.cat(single), whole, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(draw_latents(teacher.pipeline, texts, 0, **options | {"seed": 6}), whole, atol=1e-2)
    assert not torch.allclose(draw_latents(teacher.pipeline, texts, 3, **options), whole, atol=1e-2)


@every_family
def test_guidance_and_text_matter(teacher: Teacher) -> None:
    def draw(text: str, scale: float) -> torch.Tensor:
        return draw_latents(teacher.pipeline, [text], 0, seed=5, steps=3, guidance_scale=scale)

    assert not torch.equal(draw("a tiger", 1.0), draw("a tiger", 5.0))
    assert not torch.equal(draw("a tiger", 5.0), draw("a bus", 5.0))


@every_family
def test_images_to_latents_and_back(teacher: Teacher) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    latents = encode_images(teacher.pipeline, images)
    vae, factor = teacher.pipeline.vae, teacher.pipeline.vae.config["scaling_factor"]
    shift = vae.config["shift_factor"] or 0.0
    assert latents.shape == (2, *teacher.latent_shape)
    with torch.no_grad():
        torch.testing.assert_close(
            latents, vae.encode(images.float() / 127.5 - 1).latent_dist.mean * factor - shift * factor
        )
        pixels = vae.decode(latents / factor + shift).sample
    decoded = decode(teacher.pipeline, latents)
    assert decoded.dtype == torch.uint8
    assert decoded.shape == images.shape
    assert ((decoded.float() / 127.5 - 1) - pixels.clamp(-1, 1)).abs().max() <= 0.5001 / 127.5


def test_large_images_are_decoded_one_at_a_time(
    teacher: Teacher, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not teacher.pipeline.vae.use_slicing  # 32 pixels
    monkeypatch.setattr(pipelines, "_LARGE", 32)
    sliced, rows = load_pipeline(pipeline_folder), list[int]()
    sliced.vae.decoder.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    latents = torch.randn(3, *teacher.latent_shape, generator=torch.Generator().manual_seed(0))
    found = decode(sliced, latents)
    assert rows == [1, 1, 1]
    assert (found.int() - decode(teacher.pipeline, latents).int()).abs().max() <= 1


def zipped(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        return {name: np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()}


def test_images_in_a_zip(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    for name in ("a.zip", "b.zip"):
        pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]
        assert write_images(tmp_path / name, (stored(p, "png", None) for p in pictures), 9998, "png") == 3
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    found = zipped(tmp_path / "a.zip")
    assert list(found) == ["09998.png", "09999.png", "10000.png"]  # which sort as they are numbered
    for image, pixels in zip(images, found.values(), strict=True):
        assert (pixels == image.permute(1, 2, 0).numpy()).all()


# how evaluation images are drawn in these tests, but for batches and shards
DRAWN = {
    "count": 7,
    "steps": 2,
    "guidance_scale": 2.0,
    "seed": 7,
    "precision": "no",
    "image_format": "png",
    "resize": None,
}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    texts = [caption.text for caption in emoji.captions()[:: len(emoji.captions()) // 7]][:7]
    write_prompts(tmp_path / "prompts.parquet", pd.DataFrame({"text": texts, "split": "seen", "source": "emoji"}))
    return tmp_path / "prompts.parquet"


def render_arguments(prompts: Path, teacher: Path, shard: int = 0, settings: dict | None = None) -> argparse.Namespace:
    values = {"count": 5, "shard": 5, "batch": 5, "steps": 2, "guidance_scale": 2.0, "seed": 7, "images": "rendered"}
    values |= {"world": "emoji", "precision": "no", "latents": "fp32"}
    values |= settings or {}
    output = prompts.with_name(f"{values['shard']}-{shard}.safetensors")
    return argparse.Namespace(
        settings=json.dumps(values), shard=shard, threads=1, teacher=teacher, prompts=prompts, output=output,
        sources=[],
    )  # fmt: skip


@pytest.mark.parametrize("images", ["rendered", "real"])
@every_family
def test_shards_and_batches_change_nothing(images: str, prompts: Path, pipeline_folder: Path) -> None:
    one = render_arguments(prompts, pipeline_folder, settings={"images": images})
    smaller = {"images": images, "shard": 3, "batch": 2}
    parts = [render_arguments(prompts, pipeline_folder, k, smaller) for k in range(2)]
    for arguments in (one, *parts):
        render._main(arguments)
    whole = LatentShards([one.output]).get(list(range(5)))
    assert len(LatentShards([part.output for part in parts])) == 5
    torch.testing.assert_close(LatentShards([p.output for p in parts]).get(list(range(5))), whole, atol=1e-4, rtol=1e-4)
    assert read_tensors(parts[1].output)["rows"].tolist() == [3, 4]
    before = one.output.read_bytes()
    render._main(one)
    assert one.output.read_bytes() == before
    if images == "real":
        scenes = emoji.real_images(read_prompts(prompts)["text"].tolist()[:5], 7)
        torch.testing.assert_close(whole, encode_images(load_pipeline(pipeline_folder), scenes))


@every_family
def test_augmented_images_as_bk_sdm_takes_them(prompts: Path, pipeline_folder: Path) -> None:
    arguments = render_arguments(prompts, pipeline_folder, settings={"images": "real-augmented", "batch": 2})
    render._main(arguments)
    scenes = emoji.real_images(read_prompts(prompts)["text"].tolist()[:5], 7)
    vae = load_pipeline(pipeline_folder).vae
    scale, shift = vae.config["scaling_factor"], vae.config["shift_factor"] or 0.0
    shards = LatentShards([arguments.output])
    rows, texts = [4, 0, 2, 2], [str(i) for i in range(5)]
    means, spreads = [], []
    for image in (scenes, scenes.flip(-1)):
        found = vae.encode(image.float() / 127.5 - 1).latent_dist
        means.append(((found.mean - shift) * scale)[rows])
        spreads.append((found.std * scale)[rows])
    torch.testing.assert_close(shards.get(rows), means[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shards.get(rows, "mirrored_spread"), spreads[1], atol=1e-5, rtol=1e-4)
    pairs = Pairs(shards, texts, list(range(5)), 3)
    drawn = []
    for step in range(300):
        mirrored, noise = pairs.variation(step, 4)
        expected = torch.stack([means[int(m)][i] + spreads[int(m)][i] * noise[i] for i, m in enumerate(mirrored)])
        latents = pairs.latents(rows, (mirrored, noise))
        torch.testing.assert_close(latents, expected, atol=1e-5, rtol=1e-4)
        # a part of a batch is that part of it
        assert torch.equal(pairs.latents(rows[1:3], (mirrored[1:3], noise[1:3])), latents[1:3])
        drawn.append(mirrored)
    assert abs(float(torch.cat(drawn).float().mean()) - 0.5) < 5 * 0.5 / 1200**0.5  # half of them
    again = Pairs(shards, texts, list(range(5)), 3).variation(7, 4)
    assert all(map(torch.equal, again, pairs.variation(7, 4)))
    assert not torch.equal(again[1], Pairs(shards, texts, list(range(5)), 4).variation(7, 4)[1])


def test_augmented_and_plain_shards_do_not_mix(prompts: Path, pipeline_folder: Path) -> None:
    files = []
    for i, images in enumerate(("real-augmented", "real")):
        arguments = render_arguments(prompts, pipeline_folder, i, {"images": images, "shard": 2, "count": 4})
        render._main(arguments)
        files.append(arguments.output)
    with pytest.raises(UserError, match=r"2-1\.safetensors: its images are augmented otherwise"):
        LatentShards(files)


def test_no_such_shard(prompts: Path, pipeline_folder: Path) -> None:
    with pytest.raises(UserError, match="no row 5 for shard 1"):
        render._main(render_arguments(prompts, pipeline_folder, shard=1))


@pytest.fixture
def broken_folder(pipeline_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pipeline_folder, tmp_path / "broken")


@pytest.mark.parametrize("value", [float("nan"), 0.0])
@every_family
def test_a_teacher_that_draws_nothing_is_named(
    value: float, prompts: Path, broken_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "draw_latents", lambda _pipeline, texts, *_: torch.full((len(texts), 4, 8, 8), value))
    arguments = render_arguments(prompts, broken_folder)
    with pytest.raises(UserError, match=r"broken: the teacher's latents"):
        render._main(arguments)
    assert not arguments.output.exists()


@every_family
def test_broken_weights_end_the_drawing(prompts: Path, broken_folder: Path) -> None:
    (file,) = denoiser_folder(broken_folder).glob("*.safetensors")
    weights = load_file(file)
    weights[LAST[family_of(broken_folder).denoiser]][0] = float("nan")
    save_file(weights, file, {"format": "pt"})
    output = prompts.with_name("a.zip")
    settings = DRAWN | {"shard": 2, "batch": 2}
    with pytest.raises(UserError, match=r"broken: draws images that are not finite"):
        sample._main(
            argparse.Namespace(
                settings=json.dumps(settings), shard=0, threads=1, pipeline=broken_folder, prompts=prompts,
                output=output, name="test", unet=None,
            )
        )  # fmt: skip
    assert not output.exists()


@every_family
def test_samples_are_named_by_their_row(prompts: Path, pipeline_folder: Path) -> None:
    def draw(shard: int, size: int, batch: int) -> dict[str, np.ndarray]:
        settings = DRAWN | {"shard": size, "batch": batch}
        output = prompts.with_name(f"{shard}-{size}.zip")
        sample._main(
            argparse.Namespace(
                settings=json.dumps(settings), shard=shard, threads=1, pipeline=pipeline_folder, prompts=prompts,
                output=output, name="test", unet=None,
            )
        )  # fmt: skip
        return zipped(output)

    whole, parts = draw(0, 7, 7), draw(0, 4, 3) | draw(1, 4, 3)
    assert list(parts) == list(whole) == [f"{i:05d}.png" for i in range(7)]
    for name, pixels in whole.items():
        assert np.abs(parts[name].astype(int) - pixels).max() <= 1


@every_family
def test_another_unet_draws_in_the_place_of_the_pipelines_own(broken_folder: Path, pipeline_folder: Path) -> None:
    (file,) = denoiser_folder(broken_folder).glob("*.safetensors")
    save_file({name: tensor / 2 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    halved = load_pipeline(broken_folder)
    mixed = load_pipeline(pipeline_folder, denoiser=denoiser_folder(broken_folder))
    one, other = (draw_latents(pipeline, ["a tiger"], 0, 0, 2, 2.0) for pipeline in (halved, mixed))
    assert torch.equal(one, other)
    assert not torch.equal(one, draw_latents(load_pipeline(pipeline_folder), ["a tiger"], 0, 0, 2, 2.0))
    last = LAST[family_of(broken_folder).denoiser]
    # copies: what was loaded is the file's own bytes
    lacking = {name: tensor.clone() for name, tensor in load_file(file).items() if name != last}
    for content in (b"", file.read_bytes()[:-1000], lacking):
        file.write_bytes(content) if isinstance(content, bytes) else save_file(content, file, {"format": "pt"})
        with pytest.raises(UserError, match="broken/[a-z]+: no whole denoiser") as caught:
            load_pipeline(pipeline_folder, denoiser=denoiser_folder(broken_folder))
        assert "\n" not in str(caught.value)


def test_real_images_follow_their_prompts(prompts: Path) -> None:
    output = prompts.with_name("real.zip")
    settings = {"world": "emoji", "real_per_prompt": 2, "seed": 3, "image_format": "png", "resize": None}
    real_images.main(argparse.Namespace(settings=json.dumps(settings), prompts=prompts, output=output, sources=[]))
    texts = [text for text in read_prompts(prompts)["text"] for _ in range(2)]
    found = list(zipped(output).values())
    assert (np.stack(found) == emoji.real_images(texts, 3).permute(0, 2, 3, 1).numpy()).all()


@pytest.mark.parametrize("fault", ["nothing", "no unet", "no weights", "cut weights", "pickled weights", "no index"])
@every_family
def test_broken_pipeline_is_named(fault: str, broken_folder: Path) -> None:
    unet = denoiser_folder(broken_folder)
    (weights,) = unet.glob("*.safetensors")
    if fault == "nothing":
        shutil.rmtree(broken_folder)
    elif fault == "no unet":
        shutil.rmtree(unet)
    elif fault == "no weights":
        weights.unlink()
    elif fault == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif fault == "pickled weights":
        torch.save(load_file(weights), weights.with_suffix(".bin"))
        weights.unlink()
    else:
        (broken_folder / "model_index.json").write_text("{")
    with pytest.raises(UserError, match="broken") as caught:
        load_pipeline(broken_folder)
    assert "\n" not in str(caught.value)
