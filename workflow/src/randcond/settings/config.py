"""The configuration: its schema, its defaults, and one line for whatever is wrong with it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from randcond.jobs.errors import UserError
from randcond.jobs.yaml_file import read_yaml
from randcond.settings.experiments import Experiments, Row, Run
from randcond.settings.fields import GridName, Section, Seed, validated
from randcond.settings.large import Calibration, Gpus, Sources
from randcond.settings.miniature import Figures, MakeTeacher
from randcond.settings.stages import Distillation, Evaluation, ModelCard, Prompts, Rendering, Scoring, Sensitivity
from randcond.settings.workflow import kept_points, shown_point


def _no_assets(name: str) -> str:
    if name == "assets":
        raise ValueError("a world cannot be called assets; results/assets holds what is fetched for all of them")
    return name


MINIATURES = ("emoji", "artists")  # worlds that draw as many real images as they like
_SHIPPED = {
    world: {name: f"workflow/assets/{world}/{name}" for name in ("teacher", "evaluator")} for world in MINIATURES
}


class Config(Section):
    """Everything a pipeline run depends on."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$"), AfterValidator(_no_assets)] = "artists"
    """Name of the world's folder in ``results/``."""
    world: Literal["emoji", "artists", "paper", "own"] = "artists"
    """Where texts and real images come from, and how samples are scored."""
    teacher: str = ""
    """Folder of the teacher, a diffusers pipeline; or one ``.safetensors`` file with all its weights. Not named: the
    one that is shipped with the world."""
    teacher_layout: str | None = None
    """For a teacher in one file: folder of the diffusers pipeline that it was fine-tuned from, of which configurations
    and tokenizer are read, and no weights."""
    evaluator: str = ""
    """Folder of the open_clip model that scores are computed with. Not named: the one that is shipped with the
    world."""
    inception: str | None = None
    """Folder of Inception's weights, for worlds that are scored by it."""
    sources: Sources = Sources()
    """Files of the world that are not part of the project."""
    gpus: Gpus = Gpus()
    """GPUs of a job."""
    experiments: str = "config/experiments.yaml"
    """File of the runs, tables and figures."""
    claims: str = "config/claims.yaml"
    """File of what the paper claims, and of what we ask."""
    grid: GridName = "default"
    """Which of the runs: the default ones, or all."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    """Seeds that every run is trained with."""
    more_seeds: dict[str, list[Seed]] = {}
    """Further seeds of some runs, or of what is made of such runs' students (``faster``, ``drawn``)."""
    only: list[str] = []
    """Only these runs, and those of ``faster`` and ``drawn``; none named: all."""
    along: list[str] = []
    """Runs that are scored at every kept step too (``distillation.keep_every``): quality against steps."""
    prompts: Prompts = Prompts()
    """Prompts."""
    rendering: Rendering = Rendering()
    """Rendering of D."""
    sensitivity: Sensitivity = Sensitivity()
    """How far a noised image tells its text from another, measured from the teacher."""
    distillation: Distillation = Distillation()
    """Training of the students."""
    sampling: Evaluation = Evaluation()
    """Sampling for the evaluation."""
    scoring: Scoring = Scoring()
    """Scoring."""
    figures: Figures = Figures()
    """The paper's small figures."""
    calibration: Calibration | None = None
    """What the teacher must score before any student is scored; none: nothing."""
    model_card: ModelCard = ModelCard()
    """What the card of a student says of its teacher (``make model``)."""
    make_teacher: MakeTeacher = MakeTeacher()
    """Training of a miniature world's teacher and evaluator (``config/artists-teacher.yaml``)."""

    @property
    def teacher_folder(self) -> str:
        """Where the teacher's pipeline lies: the folder that is named, or the one that a single file is made into."""
        return f"results/{self.name}/converted/teacher" if self.teacher.endswith(".safetensors") else self.teacher

    @property
    def layout(self) -> str | None:
        """``teacher_layout`` where the teacher is one file; beside a folder, which describes itself, it is not read."""
        return self.teacher_layout if self.teacher.endswith(".safetensors") else None

    @property
    def teacher_card(self) -> ModelCard:
        """What is said of the teacher; the licence of the one that is shipped stands in NOTICE."""
        shipped = self.teacher in [parts["teacher"] for parts in _SHIPPED.values()]
        if shipped and self.model_card.license is None:
            return self.model_card.model_copy(update={"license": "cc-by-sa-4.0"})
        return self.model_card

    @property
    def teacher_name(self) -> str:
        """What a card calls the teacher: its name on the hub, else its path, from outside the project the last part."""
        outside = Path(self.teacher).is_absolute() or ".." in Path(self.teacher).parts
        return self.model_card.base_model or (Path(self.teacher).name if outside else self.teacher)

    def seeds_of(self, name: str) -> list[int]:
        """The seeds that a run is trained with, or that what is made of one is made with."""
        return sorted({*self.seeds, *self.more_seeds.get(name, [])})

    def check_experiments(self, experiments: Experiments) -> None:
        """Raise :class:`UserError` if a run is named that is not there, or there are fewer prompts than a run needs."""
        scored = [*experiments.runs, *experiments.more]
        for where, names in (("only", self.only), ("more_seeds", self.more_seeds), ("along", self.along)):
            known = [*experiments.runs] if where == "along" else scored
            for name in names:
                if name not in known:
                    raise UserError(f"config: {where}: there is no run {name!r}; there are {', '.join(known)}")
        for name in self.more_seeds:
            student = experiments.student(name)
            if student == "teacher":
                raise UserError(f"config: more_seeds.{name}: is drawn by the teacher, who has no seeds; leave it out")
            if lacking := set(self.seeds_of(name)) - set(self.seeds_of(student)):
                raise UserError(
                    f"config: more_seeds.{name}: its student {student!r} has no seed {min(lacking)}; give it to"
                    f" more_seeds.{student} too"
                )
        for name, run in experiments.runs.items():
            if (run.size or 0) > self.prompts.count:
                raise UserError(
                    f"{self.experiments}: runs.{name}.size: {run.size} pairs, but prompts.count is only"
                    f" {self.prompts.count}"
                )
            share, batch = run.trajectories.share if run.trajectories else 1.0, self.distillation.batch
            if share < 1 and round(share * batch) in (0, batch):
                raise UserError(
                    f"{self.experiments}: runs.{name}.trajectories.share: {share} of distillation.batch, {batch},"
                    " leaves one of the two kinds without a pair"
                )
        if experiments.shows_real and self.world not in MINIATURES:
            raise UserError(
                f"{self.experiments}: run: real: the world {self.world} has no real images beside those that samples"
                " are held against; leave the row out"
            )
        for name, table in experiments.tables.items():
            for row in table.rows:
                if row.run in experiments.runs:
                    self._check_point(f"{self.experiments}: tables.{name}: {row.run}", row, experiments.runs[row.run])

    def _check_point(self, where: str, row: Row, run: Run) -> None:
        recipe = self.distillation.model_dump()
        kept, shown = kept_points(recipe, run.model_dump()), shown_point(recipe, run.model_dump(), row.model_dump())
        if shown is None:
            return
        if row.run not in self.along:
            raise UserError(f"{where}: step {shown[0]}, {shown[1]}, is not scored; name the run in config: along")
        if shown not in kept:
            there = ", ".join(f"{step} {weights}" for step, weights in kept)
            raise UserError(f"{where}: step {shown[0]}, {shown[1]}, is not kept; there are {there}")

    @model_validator(mode="before")
    @classmethod
    def _with_shipped(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        world = values.get("world", cls.model_fields["world"].default)
        named = {name: value for name, value in values.items() if name not in ("teacher", "evaluator") or value != ""}
        return {**(_SHIPPED.get(world, {}) if isinstance(world, str) else {}), **named}

    @model_validator(mode="after")
    def _agrees(self) -> "Config":
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: a seed is listed twice")
        if self.world != "own" and self.prompts.llm.count < self.prompts.count:
            raise ValueError(
                f"prompts.llm.count: {self.prompts.llm.count} prompts are fewer than the {self.prompts.count} to render"
            )
        if self.world != "own" and self.prompts.description is not None:
            raise ValueError(f"prompts.description: the world {self.world} has texts; it is for the world own")
        for name in ("teacher", "evaluator"):
            where = getattr(self, name)
            if not where:
                raise ValueError(f"{name}: name one; none is shipped with the world {self.world}")
            if self.world in MINIATURES and where in [v[name] for w, v in _SHIPPED.items() if w != self.world]:
                raise ValueError(f"{name}: {where} knows another world than {self.world}")
        if self.along and not self.distillation.keep_every:
            raise ValueError("along: nothing is kept along a training; set distillation.keep_every")
        if (self.prompts.benchmark or 0) > self.prompts.evaluation:
            raise ValueError(f"prompts.benchmark: there are only {self.prompts.evaluation} evaluation prompts")
        return self


def check_config(values: dict[str, Any]) -> Config:
    """The configuration from a parsed YAML file.

    Raises:
        UserError: Naming the first setting that is wrong, and why.
    """
    return validated(Config, values, "config")


def read_config(paths: list[Path]) -> Config:
    """The configuration of files laid over one another, as Snakemake does it.

    Raises:
        UserError: If a file cannot be read, or a setting is wrong.
    """
    values: dict[str, Any] = {}
    for path in paths:
        values = _over(values, read_yaml(path, "settings"))
    return check_config(values)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {key for key in below.keys() & above.keys() if isinstance(below[key], dict) and isinstance(above[key], dict)}
    return {**below, **above, **{key: _over(below[key], above[key]) for key in both}}
