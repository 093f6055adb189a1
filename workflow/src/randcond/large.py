"""Settings that matter at full size: files from outside, GPUs, precision, the evaluation's protocol, calibration."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from randcond.fields import Above0, Positive, Section

Precision = Literal["no", "fp16", "bf16"]


class Sources(Section):
    """Files of the world that are not part of the project, by path; an asset's is ``results/assets/<asset>``."""

    # each a file, or a folder that holds one of its kind
    captions: str | None = None  # zip with metadata.csv (file_name, text) and the real images of D's prompts
    evaluation: str | None = None  # CSV (file_name, text): the prompts that samples are drawn from
    annotations: str | None = None  # zip with COCO's captions: a prompt for every photo that `evaluation` leaves out
    texts: str | None = None  # folder of Parquet files (TEXT): the large pool
    photos: str | None = None  # zip of the real images that samples are compared with


class Gpus(Section):
    """GPUs of a job. None: the job stays on the CPU, whatever the machine has."""

    train: Annotated[int, Field(ge=0)] = 0
    draw: Annotated[int, Field(ge=0, le=1)] = 0  # rendering, sampling and scoring go shard by shard, on one GPU each


class Endpoint(Section):
    """An OpenAI-compatible service that writes prompts. Its key comes from the environment and is never logged."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    model: str
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] = "OPENAI_API_KEY"
    requests_per_minute: Above0 = 60.0
    lines: Positive = 50  # captions asked for in a request
    dollars_per_million_input: Annotated[float, Field(ge=0)] = 0.0
    dollars_per_million_output: Annotated[float, Field(ge=0)] = 0.0
    most_dollars: Above0 = 10.0  # a dearer estimate ends the job before the first request


class Writer(Section):
    """Who writes the data-free prompts: a local transformers model, or a service."""

    model: str | None = None  # folder of a transformers model; its asset's is results/assets/<asset>
    endpoint: Endpoint | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "Writer":
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("writer: name either a model or an endpoint")
        return self


class Bounds(Section):
    """What the teacher must score, and how far off it may be."""

    value: float
    tolerance: Above0


class Calibration(Section):
    """The teacher's own scores, without which no student's mean anything."""

    split: Literal["all", "seen", "unseen", "coco30k"]
    scores: Annotated[dict[Literal["fid", "is", "clip"], Bounds], Field(min_length=1)]
    overridden_by: str | None = None  # the name of who answers for scoring students all the same
