"""The model card of a finished student: what it is, how it is used, what it was made from and what it scored."""

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from randcond.jobs.errors import UserError, reading
from randcond.jobs.provenance import read_made_with
from randcond.report.figures import conditioning_name
from randcond.report.grids import shown
from randcond.report.inputs import StudentCost
from randcond.report.score_files import Estimate, Score
from randcond.report.tables import METRICS, NONE, Metric

_LICENCE = (
    "license",
    "license_name",
    "license_link",
)  # as the hub spells them; the last two where it is none of its list
_NOTICES = ("LICEN[CS]E*", "NOTICE*")  # files that go along with a teacher's students
_SHIPPED = Path("workflow/assets")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")
_INIT = {
    "copied": "the teacher's layers copied",
    "inherited": "the teacher's most important channels inherited",
    "random": "random weights at the start",
}
_NOT_KNOWN = "size not recorded"
_TEXTS = {"unseen": "those of the concepts held out", "pool": "a large pool", "llm": "more by the language model"}
_IMAGES = {
    "rendered": "rendered by the teacher",
    "real": "real",
    "real-augmented": "real, augmented",
}
_TRAINED = re.compile(r"D has (\d+) pairs, C (\d+) texts,(?: p\(t\) swaps [\d.]+%,)? (\d+) steps")


@dataclass(frozen=True)
class Made:
    """Where a student is from. Sizes are those that its training's log names; None if there is no such log."""

    name: str
    run: dict[str, Any]
    seed: int
    teacher: str
    sizes: tuple[int, int, int] | None
    code: dict[str, Any] | None
    faster: dict[str, Any] | None = None
    described: bool = False

    @property
    def p(self) -> str:
        """p(t) in words."""
        return conditioning_name(self.run["random_conditioning"])

    @property
    def weights(self) -> str:
        """Where its weights came from."""
        if self.faster:
            return f"the finished student {self.faster['student']}, same seed"
        return _INIT[self.run["init"]]

    @property
    def trajectories(self) -> str | None:
        """What came off the teacher's own trajectories, in words; None for nothing."""
        given = self.run["trajectories"]
        return given and f"{100 * given['share']:g}% of each batch, guidance {given['guidance']:g}"

    @property
    def few_steps(self) -> str | None:
        """How it learned to draw in few steps, in words; None for a student that did not."""
        if not self.faster:
            return None
        jumps = f"{self.faster['phases']} phases of its sampler's way in {self.faster['times']} times"
        return f"consistency distillation over {jumps}; guidance is in the weights: draw with guidance_scale=1"

    @property
    def d(self) -> str:
        """D in words."""
        if self.run["trajectories"] and self.run["trajectories"]["share"] == 1:
            return "none: all pairs are of the teacher's own trajectories"
        size = f"{self.sizes[0]:,} pairs" if self.sizes else _NOT_KNOWN
        written = self.described or self.run["prompts"] == "llm"
        prompts = "prompts by a language model" if written else "the world's captions"
        rows = {"all": "", "seen": ", those that name no concept held out"}[self.run["rows"]]
        return f"{size}: {prompts}{rows}; images {_IMAGES[self.run['images']]}"

    @property
    def c(self) -> str:
        """C in words."""
        if self.p == "none" and not self.run["trajectories"]:
            return "none: texts are not swapped"
        size = f"{self.sizes[1]:,} texts" if self.sizes else _NOT_KNOWN
        return f"{size}: " + ", ".join(["D's own", *(_TEXTS[one] for one in self.run["texts"])])

    @property
    def training(self) -> str:
        """How long, and with which seed."""
        return f"{self.sizes[2]:,} steps, seed {self.seed}" if self.sizes else f"seed {self.seed}"


@dataclass(frozen=True)
class Measured:
    """Scores and costs of the teacher and of the student."""

    teacher: Score
    student: Score
    teacher_cost: StudentCost
    student_cost: StudentCost

    @property
    def weights(self) -> str:
        """Which of a training's weights these are."""
        return {"ema": "averaged weights", "raw": "raw weights"}.get(self.student.weights, "weights not recorded")

    @property
    def costs(self) -> list[tuple[str, str, str]]:
        """What each costs: its name, the teacher's, the student's."""
        rows = [
            ("parameters of the UNet", lambda one: f"{one.unet_parameters:,}"),
            ("multiply-accumulates of a UNet call", lambda one: f"{one.macs:,}"),
            ("bytes of the UNet in float16", lambda one: f"{one.unet_bytes:,}"),
            ("seconds an image", lambda one: f"{one.latency:.2f} ({markdown(one.device)})"),
            ("bytes of memory at most", lambda one: f"{one.memory:,}" if one.memory else NONE),
        ]
        return [(name, text(self.teacher_cost), text(self.student_cost)) for name, text in rows]

    def metrics(self, split: str) -> list[tuple[Metric, str, str]]:
        """The metrics that the student has on a split, with the text of either's value and 95% interval."""
        theirs, ours = self.teacher.splits.get(split), self.student.splits[split].metrics
        found = [
            (metric, theirs.metrics.get(metric.key) if theirs else None, ours.get(metric.key)) for metric in METRICS
        ]
        return [(metric, _text(metric, a), _text(metric, b)) for metric, a, b in found if b is not None]


def _text(metric: Metric, found: Estimate | None) -> str:
    return NONE if found is None else f"{metric.text(found.value)} ± {metric.text(found.error95)}"


def trained(log: Path) -> tuple[tuple[int, int, int] | None, dict[str, Any] | None]:
    """Pairs in D, texts in C and steps, and what the training was made with, out of its log, if they stand there."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    found = _TRAINED.findall(text)
    pairs, texts, steps = map(int, found[-1]) if found else (0, 0, 0)
    return (pairs, texts, steps) if found else None, read_made_with(text)


def front_matter(teacher: Path, settings: dict[str, Any], tags: list[str]) -> str:
    """The card's YAML: the licence is that of the teacher's own card where it names one, else the settings'; the base
    model is the settings', if they name one: the hub takes no path.

    Args:
        teacher: The teacher's folder.
        settings: The configuration's ``model_card``.
        tags: Of the hub.

    Raises:
        UserError: If neither says under which licence the teacher is given.
    """
    own, path = {}, teacher / "README.md"
    if path.is_file():
        with reading(path, "a model card", broken="correct it or delete it"):
            own = ModelCard.load(path).data.to_dict()
    licence = {key: own[key] for key in _LICENCE if own.get(key)} if own.get("license") else {}
    if "://" not in (link := str(licence.get("license_link", "://"))) and not _is_in(teacher, link):
        del licence["license_link"]  # of a file that cannot go along
    if not licence:
        if not settings["license"]:
            raise UserError(
                f"{path}: names no licence, nor does the configuration; a student has its teacher's: set model_card:"
                " {license: ...}"
            )
        licence = {key: settings[key] for key in _LICENCE if settings[key]}
    data = ModelCardData(
        **{"library_name": "diffusers", "pipeline_tag": "text-to-image", "base_model": settings["base_model"]},
        **{"tags": tags, **licence},
    )
    return data.to_yaml()


def _is_in(folder: Path, link: str) -> bool:
    """Whether a stranger's link is a file of the folder itself: none from elsewhere on this machine goes along."""
    return Path(link).name == link and (folder / link).is_file()


def notices(teacher: Path, front: str) -> list[Path]:
    """The files of licences and notices that have to go along with a student.

    Args:
        teacher: The teacher's folder; those of a shipped one lie beside it.
        front: The card's YAML, whose ``license_link`` may be a file of the teacher's folder.
    """
    places = [teacher, *([teacher.parent] if _SHIPPED in teacher.parents else [])]
    found = {path.name: path for place in places for kind in _NOTICES for path in sorted(place.glob(kind))}
    link = ModelCard(f"---\n{front}\n---\n").data.to_dict().get("license_link")
    if link and _is_in(teacher, str(link)):
        found[str(link)] = teacher / str(link)
    return [path for path in found.values() if path.is_file()]


def markdown(text: str) -> str:
    """A text of others in one line of Markdown: nothing of it is markup."""
    return _MARKDOWN.sub(r"\\\1", html.escape(shown(text), quote=False))


def render(template: Path, **content: Any) -> str:
    """The card."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = markdown
    environment.filters["code"] = lambda text: '"' + re.sub(r'["`\\]', "'", shown(text)) + '"'
    return environment.get_template(template.name).render(**content)
