"""A bad setting ends in one line that names it."""

import pytest
from layered import merge, one_line

from randcond.jobs.errors import UserError
from randcond.settings.config import Config, check_config

BAD_CONFIGS = {
    "unknown key": ({"sede": [0]}, "sede"),
    "unknown nested key": ({"distillation": {"learning_rat": 1e-4}}, "distillation.learning_rat"),
    "unknown key two levels down": ({"prompts": {"llm": {"model": "x"}}}, "prompts.llm.model"),
    "string for a number": ({"distillation": {"learning_rate": "fast"}}, "distillation.learning_rate"),
    "number as string": ({"prompts": {"count": "960"}}, "prompts.count"),
    "number for a section": ({"prompts": 3}, "prompts"),
    "fraction of a step": ({"distillation": {"steps": {"copied": 1.5}}}, "distillation.steps.copied"),
    "negative steps": ({"distillation": {"steps": {"random": -1}}}, "distillation.steps.random"),
    "no prompts": ({"prompts": {"count": 0}}, "prompts.count"),
    "no batch": ({"sampling": {"batch": 0}}, "sampling.batch"),
    "no seeds": ({"seeds": []}, "seeds"),
    "seed twice": ({"seeds": [1, 1]}, "seeds"),
    "negative seed": ({"seeds": [-1]}, "seeds"),
    "N above the LLM's prompts": ({"prompts": {"count": 30, "llm": {"count": 20}}}, "prompts.llm.count"),
    "seed that numpy does not take": ({"scoring": {"seed": 2**32}}, "scoring.seed"),
    "name that leaves the folder": ({"name": "../x"}, "name"),
    "unknown world": ({"world": "mars"}, "world"),
    "NaN learning rate": ({"distillation": {"learning_rate": {"random": float("nan")}}}, "learning_rate.random"),
    "infinite weight decay": ({"distillation": {"weight_decay": float("inf")}}, "distillation.weight_decay"),
    "ema of one": ({"distillation": {"ema": 1.0}}, "distillation.ema"),
    "ema wanted but off": ({"distillation": {"ema": 0.0}}, "ema"),
    "null text above one": ({"distillation": {"null_text": 1.2}}, "distillation.null_text"),
    "unknown schedule": ({"distillation": {"schedule": "linear"}}, "distillation.schedule"),
    "unknown weights": ({"distillation": {"weights": "best"}}, "distillation.weights"),
    "guidance below one": ({"sampling": {"guidance_scale": 0.5}}, "sampling.guidance_scale"),
    "top_p of zero": ({"prompts": {"llm": {"top_p": 0.0}}}, "prompts.llm.top_p"),
    "truth for a number": ({"distillation": {"batch": True}}, "distillation.batch"),
    "truth for a seed": ({"seeds": [True]}, "seeds"),
    "number for a truth": ({"distillation": {"gradient_checkpointing": 1}}, "distillation.gradient_checkpointing"),
    "number of YAML 1.2": ({"distillation": {"learning_rate": {"copied": "1e-4"}}}, "learning_rate.copied"),
    "no learning": ({"distillation": {"learning_rate": {"copied": 0.0}}}, "learning_rate.copied"),
    "negative clip": ({"distillation": {"gradient_clip": -1.0}}, "distillation.gradient_clip"),
    "section left empty": ({"sampling": None}, "sampling"),
    "steps as one number": ({"distillation": {"steps": 800}}, "distillation.steps"),
    "unknown precision": ({"distillation": {"mixed_precision": "fp8"}}, "distillation.mixed_precision"),
    "one seed": ({"seeds": 0}, "seeds"),
    "half a recipe of the teacher": ({"make_teacher": {"denoiser": {"steps": 10}}}, "make_teacher.denoiser"),
    "longer decay than training": (
        {
            "make_teacher": {
                "denoiser": {"steps": 9, "batch": 1, "learning_rate": 1e-3, "seed": 0, "warmup": 2, "decay": 8}
            }
        },
        "decay: 2 steps of warmup and 8 of decay are more than 9",
    ),
    "no teacher for a world of one's own": ({"world": "own"}, "teacher: name one; none is shipped with the world own"),
    "the emoji world's teacher for six artists": (
        {"world": "artists", "teacher": "workflow/assets/emoji/teacher"},
        "teacher: workflow/assets/emoji/teacher knows another world than artists",
    ),
    "the emoji world's evaluator": (
        {"world": "artists", "teacher": "t", "evaluator": "workflow/assets/emoji/evaluator"},
        "evaluator: workflow/assets/emoji/evaluator",
    ),
    "name with a space": ({"name": "my world"}, "name"),
    "name of the assets' folder": ({"name": "assets"}, "name"),
    "kept backwards": ({"distillation": {"keep_every": -1}}, "distillation.keep_every"),
    "scored along a training that keeps nothing": ({"along": ["copied-rc"]}, "distillation.keep_every"),
    "one bootstrap sample": ({"scoring": {"bootstrap": 1}}, "scoring.bootstrap"),
}


def leaves(values: dict, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all settings."""
    return [
        path
        for key, value in values.items()
        for path in (leaves(value, (*above, key)) if isinstance(value, dict) else [(*above, key)])
    ]


def nested(path: tuple[str, ...], value: object) -> dict:
    return {path[0]: nested(path[1:], value) if len(path) > 1 else value}


SETTINGS = leaves(Config().model_dump())
PATHS = {"teacher", "evaluator", "experiments", "claims"}
FILES = {".".join(path) for path in SETTINGS if path[0] in ("sources", "inception", "teacher_layout")}
FILES.add("make_teacher.parts_of")
ABSENT = {"prompts.benchmark", "prompts.llm.writer", "prompts.pool", "calibration", "sampling.resize"}
ABSENT |= {"model_card.license", "model_card.license_name", "model_card.license_link", "model_card.base_model"}
ABSENT.add("prompts.description")

JUNK = {
    "null": None, "empty text": "", "two lines": "a\nb", "list of null": [None], "empty section": {},
    "section": {"a": 1}, "negative": -1, "NaN": float("nan"), "minus infinity": float("-inf"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_config(case: str) -> None:
    values, named = BAD_CONFIGS[case]
    with pytest.raises(UserError) as caught:
        check_config(values)
    one_line(caught.value, named)


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_any_setting_is_one_line(junk: str) -> None:
    accepted = set()
    for path in SETTINGS:
        try:
            check_config(merge(Config().model_dump(), nested(path, JUNK[junk])))
        except UserError as error:
            one_line(error, ".".join(path))
        else:
            accepted.add(".".join(path))
    # a path may be any string, or missing where a world can do without: it is looked at when it is used
    kind = {str: PATHS | FILES, type(None): FILES | ABSENT}.get(type(JUNK[junk]), set())
    assert accepted == kind


def test_defaults_are_valid_and_other_numbers_are_kept() -> None:
    assert check_config({}) == Config()
    for path in SETTINGS:
        default = Config().model_dump()
        for key in path:
            default = default[key]
        if isinstance(default, int) and not isinstance(default, bool) and path != ("prompts", "count"):
            found = check_config(merge(Config().model_dump(), nested(path, default + 1))).model_dump()
            for key in path:
                found = found[key]
            assert found == default + 1
