"""What each family of teachers fills in: texts, noise and its removal, samplers, and parts that must fit together."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from tiny_pipelines import FAMILIES as TINY
from tiny_pipelines import sd3

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import normal
from randcond.method.conditioning import Exponential
from randcond.method.noise_level import equivalent_timesteps, share_of, stable_diffusion_log_snr
from randcond.students.distil import save_pipeline
from randcond.teachers.families import FAMILIES, denoiser_folder, family_of
from randcond.teachers.noise import NOISE_SCHEDULE, log_snr
from randcond.teachers.pipelines import decode, draw_latents, encode_images, load_pipeline, teacher_of
from randcond.teachers.processes import Flow, process_of
from randcond.teachers.solvers import CLEAN
from randcond.teachers.teacher import Teacher

TEXTS = ["a tiger", "", "a red bus on a green background"]


@pytest.fixture(params=[*TINY, "sd3 with T5"])
def folder(request: pytest.FixtureRequest, family_folders: dict[str, Path], tmp_path: Path) -> Path:
    if request.param in TINY:
        return family_folders[request.param]
    torch.manual_seed(0)
    sd3(tmp_path / "t5", t5=True)
    return tmp_path / "t5"


def test_known_families() -> None:
    assert len(FAMILIES) == len(TINY)


def test_texts_are_encoded_as_the_pipeline_does(folder: Path) -> None:
    if family_of(folder).module == "made_up_family":
        pytest.skip("its pipeline asks its teacher")
    teacher = teacher_of(load_pipeline(folder))
    pipeline = teacher.pipeline
    found = teacher.encode(TEXTS)
    assert all(len(rows) == len(TEXTS) for rows in found.values())
    # with guidance the pipeline's first half is the empty text's
    seen: list[dict[str, Any]] = []
    teacher.denoiser.register_forward_pre_hook(lambda _, args, named: seen.append(named), with_kwargs=True)
    draw_latents(pipeline, TEXTS, 0, 0, 1, 2.0)
    given = seen[0] | (seen[0].get("added_cond_kwargs") or {})
    for name, rows in found.items():
        torch.testing.assert_close(given[name][len(TEXTS) :][[0, 2]], rows[[0, 2]])
        torch.testing.assert_close(given[name][:1], rows[1:2])


def test_one_text_is_what_it_is_among_others(folder: Path) -> None:
    teacher = teacher_of(load_pipeline(folder))
    for name, rows in teacher.encode(TEXTS).items():
        torch.testing.assert_close(teacher.encode(TEXTS[2:])[name], rows[2:])


def test_denoised_latents_do_not_depend_on_the_batch(folder: Path) -> None:
    pipeline = load_pipeline(folder)
    shape = teacher_of(pipeline).latent_shape  # freezes it first: with AMX a last bit depends on that
    whole = draw_latents(pipeline, TEXTS, 4, 5, 3, 3.0)
    assert whole.shape == (3, *shape)
    single = [draw_latents(pipeline, [text], 4 + i, 5, 3, 3.0) for i, text in enumerate(TEXTS)]
    torch.testing.assert_close(torch.cat(single), whole, atol=1e-4, rtol=1e-4)
    assert torch.equal(draw_latents(pipeline, TEXTS, 4, 5, 3, 3.0), whole)


def test_images_to_latents_and_back(folder: Path) -> None:
    pipeline = load_pipeline(folder)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    latents, vae = encode_images(pipeline, images), pipeline.vae
    with torch.no_grad():
        mean = vae.encode(images.float() / 127.5 - 1).latent_dist.mean
        pixels = vae.decode(mean).sample
    shift = vae.config.shift_factor or 0
    torch.testing.assert_close(latents, (mean - shift) * vae.config.scaling_factor)
    decoded = decode(pipeline, latents).float() / 127.5 - 1
    assert (decoded - pixels.clamp(-1, 1)).abs().max() <= 0.51 / 127.5


def test_a_pipeline_with_another_denoiser_is_saved_whole(folder: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(folder)
    other = type(teacher_of(pipeline).denoiser).from_config(teacher_of(pipeline).denoiser.config)
    save_pipeline(pipeline, other, tmp_path / "saved")
    saved = teacher_of(load_pipeline(tmp_path / "saved"))
    assert denoiser_folder(tmp_path / "saved").is_dir()
    assert all(torch.equal(a, b) for a, b in zip(saved.denoiser.parameters(), other.parameters(), strict=True))
    for name, rows in saved.encode(TEXTS).items():
        assert torch.equal(rows, teacher_of(pipeline).encode(TEXTS)[name])
    index = json.loads((tmp_path / "saved/model_index.json").read_text())
    assert "_name_or_path" not in index  # which no two machines share
    assert index["_class_name"] == json.loads((folder / "model_index.json").read_text())["_class_name"]


def test_evaluation_is_drawn_by_the_familys_sampler(folder: Path) -> None:
    flow = family_of(folder).denoiser != "unet"
    kind = FlowMatchEulerDiscreteScheduler if flow else PNDMScheduler
    assert type(load_pipeline(folder).scheduler) is kind


@pytest.mark.parametrize("name", TINY)
def test_parts_of_other_teachers_are_refused(name: str, family_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(family_folders[name], folder)
    config = folder / family_of(folder).denoiser / "config.json"
    changed = json.loads(config.read_text())
    key = "joint_attention_dim" if name == "sd3" else "cross_attention_dim"
    weights = teacher_of(load_pipeline(folder)).denoiser
    other = type(weights).from_config({**changed, key: 12})
    other.save_pretrained(config.parent)
    with pytest.raises(UserError, match="takes texts of width 12, its text encoder gives"):
        load_pipeline(folder)


@pytest.mark.parametrize("name", TINY)
def test_a_missing_weight_of_any_part_is_named(name: str, family_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(family_folders[name], folder)
    last = sorted(folder.glob("text_encoder*"))[-1]
    (file,) = last.glob("*.safetensors")
    weights = load_file(file)
    gone = next(key for key in weights if key.endswith("fc1.weight"))
    save_file({key: value for key, value in weights.items() if key != gone}, file, {"format": "pt"})
    with pytest.raises(UserError, match=rf"{last.name} .*fc1.weight is missing"):
        load_pipeline(folder)


def test_sd3_without_the_files_of_t5_draws_without_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sd3(tmp_path / "t5", t5=True)
    whole = load_pipeline(tmp_path / "t5")
    for part in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(tmp_path / "t5" / part)
    found, other = (teacher_of(one).encode(TEXTS) for one in (load_pipeline(tmp_path / "t5"), whole))
    assert torch.equal(found["pooled_projections"], other["pooled_projections"])
    states, expected = found["encoder_hidden_states"], other["encoder_hidden_states"]
    assert torch.equal(states[:, :16], expected[:, :16])
    assert not states[:, 16:].any()
    assert expected[:, 16:].any()


@pytest.mark.parametrize(
    ("name", "told"), [("FluxPipeline", "a FluxPipeline"), (["pipeline", "Mine"], r"a \['pipeline', 'Mine'\]")]
)
def test_unknown_family(tmp_path: Path, name: str | list[str], told: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(UserError, match=f"{told}; known are StableDiffusionPipeline"):
        load_pipeline(tmp_path)


SCHEDULERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no betas": ("EDMEulerScheduler", {}, "beta_schedule is not there"),
    "the image is predicted": ("DDIMScheduler", {"prediction_type": "sample"}, "prediction_type: sample is none of"),
    "a flow by a solver of diffusion": (
        "DPMSolverMultistepScheduler",
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True},
        "prediction_type: flow_prediction is none of epsilon, v_prediction",
    ),
    "no signal at the end": (
        "EulerDiscreteScheduler",
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
        "rescale_betas_zero_snr is true",
    ),
    "half as many timesteps": ("DDIMScheduler", {"num_train_timesteps": 500}, "num_train_timesteps is 500, not 1000"),
    "Stable Diffusion 2.1's": ("DDIMScheduler", {"prediction_type": "v_prediction", "set_alpha_to_one": False}, ""),
    "Stable Diffusion 1.4's": ("PNDMScheduler", {"skip_prk_steps": True, "trained_betas": None}, ""),
}


@pytest.mark.parametrize("case", SCHEDULERS)
def test_a_schedule_that_images_would_not_be_drawn_by_is_refused(
    case: str, family_folders: dict[str, Path], tmp_path: Path
) -> None:
    kind, config, told = SCHEDULERS[case]
    folder = shutil.copytree(family_folders["stable_diffusion"], tmp_path / "teacher")
    written = {} if kind == "EDMEulerScheduler" else NOISE_SCHEDULE
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps({"_class_name": kind, **written, **config}))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", kind]}))
    if not told:
        assert type(load_pipeline(folder).scheduler) is PNDMScheduler
        return
    with pytest.raises(UserError, match=f"teacher/scheduler/scheduler_config.json: {told}.*not supported") as refused:
        load_pipeline(folder)
    assert "\n" not in str(refused.value)


# the flow's schedule, against its closed forms


@pytest.fixture
def flow(family_folders: dict[str, Path]) -> Teacher:
    return teacher_of(load_pipeline(family_folders["sd3"]))


def test_a_flows_noise_levels(flow: Teacher) -> None:
    u = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    s = 3 * u / (1 + 2 * u)  # the shift
    expected = 2 * ((1 - s) / s).log()
    assert (flow.log_snr - expected)[:-1].abs().max() < 2e-3  # of float32 amounts
    assert flow.log_snr[-1] == -torch.inf
    # the shift moves log-SNR by -2 log 3
    plain = Flow(FlowMatchEulerDiscreteScheduler(shift=1.0))
    assert ((plain.log_snr - flow.log_snr)[:-1] - 2 * math.log(3)).abs().max() < 2e-3
    # p is asked at Stable Diffusion's timesteps of the same log-SNR
    asked = equivalent_timesteps(flow.log_snr)
    # the same p(t) swaps more where there is more noise
    p = Exponential.of_share(0.35)
    assert share_of(p, stable_diffusion_log_snr()) == pytest.approx(0.35, abs=1e-6)
    independent = [math.exp(-p.rate * (1 - float(t) / 1000)) for t in asked]
    assert share_of(p, flow.log_snr) == pytest.approx(sum(independent) / 1000, abs=1e-6)
    assert share_of(p, flow.log_snr) > 0.45 > 0.35 > share_of(p, plain.log_snr)
    assert asked[-1] == 999
    at = stable_diffusion_log_snr()[asked[500].round().long()]
    assert abs(float(at - flow.log_snr[500])) < 0.01


def test_a_flow_adds_noise_and_takes_it_away(flow: Teacher) -> None:
    chance = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(4, 4, 8, 8, generator=chance) for _ in range(2))
    timesteps = torch.tensor([0, 300, 700, 999])
    noised = flow.add_noise(latents, noise, timesteps)
    velocity = flow.target(latents, noise, timesteps)
    assert torch.equal(noised[3], noise[3])  # nothing is left of the image
    assert torch.equal(velocity, noise - latents)
    torch.testing.assert_close(flow._process.noise(velocity, noised, timesteps), noise)
    # straight paths: one step reaches any other time
    at = torch.tensor([CLEAN, 100, CLEAN, 2])
    moved = flow.solver()(noised, velocity, timesteps, at)
    torch.testing.assert_close(moved[[0, 2]], latents[[0, 2]])
    torch.testing.assert_close(moved[[1, 3]], flow.add_noise(latents, noise, at.clamp(min=0))[[1, 3]])


def test_a_flow_is_drawn_at_the_times_that_it_learns(flow: Teacher) -> None:
    asked: list[float] = []
    flow.denoiser.register_forward_pre_hook(
        lambda _, args, named: asked.append(float(named["timestep"].flatten()[0])), with_kwargs=True
    )
    drawn = draw_latents(flow.pipeline, ["a tiger"], 0, 7, 4, 1.0)
    times = torch.tensor([999, 749, 499, 249])
    expected = flow._process.times(times)
    torch.testing.assert_close(torch.tensor(asked), expected, atol=1e-3, rtol=1e-5)
    # and the sampler's steps are the solver's
    states = normal((4, 8, 8), 7, 0)[None]
    for now, then in zip(times.tolist(), [749, 499, 249, CLEAN], strict=True):
        at, to = torch.tensor([now]), torch.tensor([then])
        with torch.no_grad():
            predicted = flow.predict(flow.denoiser, states, at, flow.encode(["a tiger"]))
        states = flow.solver()(states, predicted, at, to)
    torch.testing.assert_close(states, drawn, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("steps", [6, 25])
def test_a_solvers_spacing_is_none_that_pndm_can_step_over(steps: int) -> None:
    # DPM-Solver's own default; each state has to be as noisy as the time that the denoiser is told
    sampler = process_of(DPMSolverMultistepScheduler(**NOISE_SCHEDULE)).sampler()
    assert (sampler.config.timestep_spacing, sampler.config.steps_offset) == ("leading", 1)
    sampler.set_timesteps(steps)
    assert sampler.timesteps.unique().diff().unique().tolist() == [1000 // steps]
    trailing = process_of(EulerDiscreteScheduler(**NOISE_SCHEDULE, timestep_spacing="trailing")).sampler()
    assert trailing.config.timestep_spacing == "trailing"


@pytest.mark.parametrize("kind", [HeunDiscreteScheduler, LCMScheduler, DDIMScheduler])
def test_what_a_file_leaves_out_is_by_its_own_class(kind: Any) -> None:
    own = kind()  # as of a file without betas, of which each class has others
    process = process_of(own)
    expected = own.alphas_cumprod
    for scheduler in (process.sampler(), process.few_steps(4, 4), process.few_steps(4, 1)):
        torch.testing.assert_close(scheduler.alphas_cumprod, expected)
    torch.testing.assert_close(process.log_snr, log_snr(expected))


def test_no_teacher_takes_the_guidance_as_a_condition(family_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(family_folders["stable_diffusion"], tmp_path / "teacher")
    config = dict(UNet2DConditionModel.load_config(folder / "unet"))
    UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": 8}).save_pretrained(folder / "unet")
    with pytest.raises(UserError, match="teacher: no whole .* takes the guidance as a condition"):
        load_pipeline(folder)


def test_texts_are_encoded_in_the_encoders_own_precision(folder: Path) -> None:
    teacher = teacher_of(load_pipeline(folder))
    expected = teacher.encode(TEXTS)
    with torch.autocast("cpu", torch.float16):
        found = teacher.conditions(TEXTS)
    for name, rows in found.items():
        assert torch.equal(rows, expected[name])


def test_a_flow_of_other_timesteps_is_refused() -> None:
    with pytest.raises(UserError, match="num_train_timesteps is 500, not 1000"):
        Flow(FlowMatchEulerDiscreteScheduler(num_train_timesteps=500))


def test_a_shift_by_size_is_refused() -> None:
    with pytest.raises(UserError, match="a shift that depends on the size"):
        Flow(FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))
