"""What else the report reads: costs, training histories, summaries of prompts, the verdict on the teacher."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, Field, FiniteFloat
from pydantic.types import StrictFloat, StrictInt

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import read_json
from randcond.report.checking import Count, Number, parse

Histories = dict[tuple[str, int], list[dict[str, float]]]


class StudentCost(BaseModel):
    """What a run's student costs; ``latency``: seconds for one image, one prompt at a time, on ``device``."""

    run: str
    unet_parameters: Count
    macs: Count
    unet_bytes: Count
    passes: Count | None = None  # of latents through the UNet for one image, guidance counted; None: not recorded
    latency: Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]
    memory: Count | None = None  # bytes that the process held at most; None: not recorded
    device: str


class Checked(BaseModel):
    """A score of the teacher beside what it should be."""

    expected: Number
    tolerance: Number
    found: Number


class Calibration(BaseModel):
    """Whether the teacher came out as it should, or who answers for scoring students all the same."""

    passed: bool
    overridden_by: str | None
    split: str
    scores: dict[str, Checked]


class PromptsSummary(BaseModel):
    """How many prompts fall to each side of the split, and how many should."""

    expected: dict[str, StrictInt]
    captions: dict[str, StrictInt]
    evaluation: dict[str, StrictInt]
    pool: StrictInt


class LlmSummary(BaseModel):
    """How the data-free prompts came about."""

    model: str
    asked: StrictInt
    accepted: StrictInt
    duplicates: StrictInt
    filtered: StrictInt
    acceptance_rate: FiniteFloat
    examples: list[str]
    pool: StrictInt


def read_student_costs(paths: Iterable[Path]) -> dict[str, StudentCost]:
    """Costs by run."""
    found: list[StudentCost] = [parse(StudentCost, read_json(path), path) for path in sorted(paths)]
    return {cost.run: cost for cost in found}


def read_histories(paths: Iterable[Path]) -> Histories:
    """Training histories by (run, seed), taken from ``.../<run>/<seed>/history.json``.

    Raises:
        UserError: If an entry lacks its step or its loss, or holds something that is not a finite number.
    """
    histories: Histories = {}
    for path in sorted(paths):
        content = read_json(path)
        if isinstance(content, list) and content and isinstance(content[0], dict):
            content[0].pop("made_with", None)  # see training.loop; the log says it too
        entries: list[dict[str, float]] = parse(list[dict[str, Number]], content, path)
        if not all("step" in entry and entry.get("loss", 0) > 0 for entry in entries):
            raise UserError(f"{path}: an entry without a step or without a loss above 0")
        histories[run_and_seed(path)] = entries
    return histories


def run_and_seed(path: Path) -> tuple[str, int]:
    """``(run, seed)`` of a file in ``.../<run>/<seed>/``."""
    run, seed = path.parent.parent.name, path.parent.name
    if not run or not seed.isdecimal():
        raise UserError(f"{path}: expected a file in a folder <run>/<seed>")
    return run, int(seed)


def read_llm_summary(path: Path) -> LlmSummary:
    """The summary that the stage of the data-free prompts wrote."""
    return parse(LlmSummary, read_json(path), path)


def read_prompts_summary(path: Path) -> PromptsSummary:
    """The counts that the prompts stage wrote."""
    return parse(PromptsSummary, read_json(path), path)


def read_calibration(path: Path) -> Calibration:
    """The verdict on the teacher's scores."""
    return parse(Calibration, read_json(path), path)


def read_prompts(path: Path) -> pd.DataFrame:
    """Evaluation prompts: at least the columns ``text`` and ``split``; the row number names the sample."""
    with reading(path, "a Parquet file with columns text and split"):
        return pd.read_parquet(path, columns=["text", "split"])
