"""Settings that matter at full size: files from outside, GPUs, precision, the evaluation's protocol, calibration."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from randcond.settings.fields import Above0, NoLogin, Positive, Section, Split

Precision = Literal["no", "fp16", "bf16"]


class Sources(Section):
    """Files of the world that are not part of the project, by path; an asset's is ``results/assets/<asset>``."""

    own: str | None = None
    """Texts of the world ``own``: a ``.txt`` with one a line, or a ``.csv`` or ``.parquet`` with a column ``text``."""
    captions: str | None = None
    """Zip with metadata.csv (file_name, text) and the real images of D's prompts, or a folder that holds one."""
    evaluation: str | None = None
    """CSV (file_name, text): the prompts that samples are drawn from."""
    annotations: str | None = None
    """Zip with COCO's captions: a prompt for every photo that ``evaluation`` leaves out."""
    texts: str | None = None
    """Folder of Parquet files (TEXT): the large pool."""
    photos: str | None = None
    """Zip of the real images that samples are compared with."""


class Gpus(Section):
    """GPUs of a job. None: the job stays on the CPU, whatever the machine has."""

    train: Annotated[int, Field(ge=0)] = 0
    """GPUs that a student is trained on."""
    draw: Annotated[int, Field(ge=0, le=1)] = 0
    """GPUs of a job that renders, samples or scores; these go shard by shard, on one GPU each."""


class Endpoint(Section):
    """An OpenAI-compatible service that writes prompts. Its key comes from the environment and is never logged."""

    url: Annotated[str, Field(pattern=r"^https?://"), NoLogin]
    """Address of the service, up to ``/v1``."""
    model: str
    """Name of the model."""
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] = "OPENAI_API_KEY"
    """Environment variable that holds the key."""
    requests_per_minute: Above0 = 60.0
    """Most requests a minute."""
    lines: Positive = 50
    """Captions asked for in a request."""
    dollars_per_million_input: Annotated[float, Field(ge=0)]
    """Price of a million tokens read; 0 of a server of one's own."""
    dollars_per_million_output: Annotated[float, Field(ge=0)]
    """Price of a million tokens written; 0 of a server of one's own."""
    most_dollars: Above0 = 10.0
    """A dearer estimate ends the job before the first request, and the job ends before it has spent more; what was
    written is kept and not paid for again."""


class Writer(Section):
    """Who writes the data-free prompts: a local transformers model, or a service."""

    model: str | None = None
    """Folder of a transformers model; an asset's is ``results/assets/<asset>``."""
    endpoint: Endpoint | None = None
    """An OpenAI-compatible service."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "Writer":
        if (self.model is None) == (self.endpoint is None):
            raise ValueError("writer: name either a model or an endpoint")
        return self


class Bounds(Section):
    """What the teacher must score, and how far off it may be."""

    value: float
    """What the paper reports."""
    tolerance: Above0
    """How far off it may be."""


class Calibration(Section):
    """The teacher's own scores, without which no student's mean anything."""

    split: Split
    """Split of the evaluation prompts."""
    scores: Annotated[dict[Literal["fid", "is", "clip"], Bounds], Field(min_length=1)]
    """What the teacher must score, by metric."""
    overridden_by: str | None = None
    """The name of who answers for scoring students all the same."""
