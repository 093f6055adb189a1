"""Latent shards, and images drawn from a pipeline."""

import pickle
from pathlib import Path

import pytest
import torch

from randcond.errors import UserError
from randcond.files import write_tensors
from randcond.render import LatentShards
from randcond.sample import write_images
from randcond.teacher import Teacher, decode, draw_latents, encode_images, load_pipeline


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


def test_broken_shards_are_named(tmp_path: Path) -> None:
    good = shard(tmp_path / "good", 0)
    pickled, cut = tmp_path / "pickled", tmp_path / "cut"
    pickled.write_bytes(pickle.dumps({"latents": [0.0]}))
    cut.write_bytes(good.read_bytes()[:-8])
    broken = {
        "pickled": [pickled],
        "cut": [cut],
        "missing": [tmp_path / "missing"],
        "nan": [shard(tmp_path / "nan", 0, latents=torch.full((3, 4, 8, 8), float("nan")))],
        "gap": [good, shard(tmp_path / "gap", 4)],
        "order": [shard(tmp_path / "order", 0, rows=torch.tensor([1, 0, 2]))],
        "names": [tmp_path / "names"],
    }
    write_tensors(tmp_path / "names", {"pixels": torch.zeros(1)})
    for name, paths in broken.items():
        with pytest.raises(UserError, match=name) as caught:
            LatentShards(paths)
        assert "\n" not in str(caught.value)


def test_latents_do_not_depend_on_the_batch(teacher: Teacher) -> None:
    texts = ["a tiger", "a bus", "a key"]
    options = {"seed": 5, "steps": 3, "guidance_scale": 3.0}
    whole = draw_latents(teacher.pipeline, texts, 0, **options)
    single = [draw_latents(teacher.pipeline, [text], i, **options) for i, text in enumerate(texts)]
    torch.testing.assert_close(torch.cat(single), whole, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(draw_latents(teacher.pipeline, texts, 0, **options | {"seed": 6}), whole, atol=1e-2)
    assert not torch.allclose(draw_latents(teacher.pipeline, texts, 3, **options), whole, atol=1e-2)


def test_guidance_and_text_matter(teacher: Teacher) -> None:
    def draw(text: str, scale: float) -> torch.Tensor:
        return draw_latents(teacher.pipeline, [text], 0, seed=5, steps=3, guidance_scale=scale)

    assert not torch.equal(draw("a tiger", 1.0), draw("a tiger", 5.0))
    assert not torch.equal(draw("a tiger", 5.0), draw("a bus", 5.0))


def test_images_to_latents_and_back_keep_their_shapes(teacher: Teacher) -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    latents = encode_images(teacher.pipeline, images)
    assert latents.shape == (2, *teacher.latent_shape)
    expected = teacher.pipeline.vae.encode(images.float() / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(latents, expected * teacher.pipeline.vae.config["scaling_factor"])
    assert decode(teacher.pipeline, latents).shape == images.shape


def test_equal_images_give_equal_zips(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    for name in ("a.zip", "b.zip"):
        write_images(tmp_path / name, images, first=7)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_no_pipeline_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing") as caught:
        load_pipeline(tmp_path / "nothing")
    assert "\n" not in str(caught.value)
