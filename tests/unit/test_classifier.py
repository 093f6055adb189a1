"""An evaluator without words: a classifier of torchvision in the place of a CLIP, for a model of one's own."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from randcond.jobs.errors import UserError
from randcond.report.score_files import Metrics
from randcond.scores import own as scores
from randcond.scores.classifier import Classifier

NAME = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.get_model(NAME, weights=None).eval()


@pytest.fixture
def folder(network: torch.nn.Module, tmp_path: Path) -> Path:
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier/torchvision.json").write_text(json.dumps({"model": NAME}))
    save_file(network.state_dict(), tmp_path / "classifier/model.safetensors")
    return tmp_path / "classifier"


def pictures(count: int, seed: int) -> list[Image.Image]:
    noise = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(one).resize((40, 40)) for one in noise]


def archive(path: Path, count: int, seed: int) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for i, picture in enumerate(pictures(count, seed)):
            stored = io.BytesIO()
            picture.save(stored, "PNG")
            opened.writestr(f"{i:05d}.png", stored.getvalue())
    return path


def test_features_are_what_the_last_layer_is_given(network: torch.nn.Module, folder: Path, tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    hook = network.fc.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    preprocess = models.get_model_weights(NAME).DEFAULT.transforms()
    with torch.no_grad():
        network(torch.stack([preprocess(picture) for picture in pictures(3, 1)]))
    hook.remove()
    found = Classifier(folder).image_features([archive(tmp_path / "a.zip", 3, 1)], 2)
    assert found.shape == (3, network.fc.in_features)
    np.testing.assert_allclose(found, seen[0].numpy(), rtol=1e-4, atol=1e-5)


def test_it_may_have_learned_to_tell_other_things_apart(network: torch.nn.Module, folder: Path, tmp_path: Path) -> None:
    pictures = [archive(tmp_path / "a.zip", 2, 1)]
    expected = Classifier(folder).image_features(pictures, 2)
    other = network.state_dict() | {"fc.weight": torch.zeros(14, network.fc.in_features), "fc.bias": torch.zeros(14)}
    save_file(other, folder / "model.safetensors")
    np.testing.assert_array_equal(Classifier(folder).image_features(pictures, 2), expected)


def test_scores_without_words(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "latents", lambda _, archives, __: np.zeros((6, 2), np.float32))
    whole = Classifier.image_features  # of a thousand features roots of matrices take half a minute
    monkeypatch.setattr(Classifier, "image_features", lambda *given: whole(*given)[:, :12])
    again, same, drawn = (archive(tmp_path / f"{i}.zip", 6, i) for i in (1, 2, 3))
    prompts = pd.DataFrame({"text": [str(i) for i in range(6)], "split": ["seen"] * 6})
    how, evaluators = {"batch": 4, "bootstrap": 3, "seed": 0}, [folder, tmp_path]
    reference = scores.reference(evaluators, [again, same], prompts, how)
    assert set(reference) == {"images", "teacher", "latents"}
    metrics = scores.splits(evaluators, [drawn], reference, prompts, how)["all"]["metrics"]
    assert set(metrics) == {"fid", "kid", "agreement", "latents"}
    assert Metrics.model_validate(metrics).clip is None  # and so a report is made of it
    itself = scores.splits(evaluators, [same], reference, prompts, how)["all"]["metrics"]
    assert itself["agreement"]["value"] == pytest.approx(1, abs=1e-5)
    assert metrics["agreement"]["value"] < 0.9999


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors there; save"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not weights"), "not the weights of shufflenet"),
        (lambda f: save_file({"x.weight": torch.zeros(2, 2)}, f / "model.safetensors"), "not the weights of shuffle"),
        (lambda f: (f / "torchvision.json").write_text("{}"), r"torchvision.json: not as .*write it so"),
        (lambda f: (f / "torchvision.json").write_text('{"model": "my_net"}'), "'my_net' is no classifier of torch"),
        (lambda f: (f / "torchvision.json").write_text('{"model": "raft_small"}'), "is no classifier of torchvision"),
    ],
)
def test_what_is_no_classifier_is_named(folder: Path, break_it: Callable[[Path], object], named: str) -> None:
    break_it(folder)
    with pytest.raises(UserError, match=named) as error:
        Classifier(folder)
    assert "\n" not in str(error.value)


def test_a_classifier_that_ends_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torchvision.json").write_text('{"model": "squeezenet1_1"}')
    save_file(models.get_model("squeezenet1_1", weights=None).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="squeezenet1_1 does not end in a linear layer; name another"):
        Classifier(tmp_path)
