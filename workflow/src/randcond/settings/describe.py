"""Write what the schema says of the settings: config/README.md for readers, JSON schemas for editors.

``python -m randcond.settings.describe`` in the project's root; a test compares the files with what would be written.
"""

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from randcond.jobs.files import write_text
from randcond.jobs.yaml_file import read_yaml
from randcond.settings.config import Config
from randcond.settings.experiments import Experiments, Grid, Line, Row, Run, Series, Table
from randcond.settings.faster import Drawn, Faster

ASSETS = Path("config/assets.yaml")
_UNIONS = (Union, types.UnionType)
_INTRODUCTION = """\
<!-- Written by `make schema` from workflow/src/randcond/settings/; do not edit. -->
# Configuration

| file | what it is |
|---|---|
| `config.yaml` | the default run: the world of six artists. Always read first |
| `smoke.yaml`, `headline.yaml`, `full.yaml` | the same world, by `--configfile config/full.yaml` |
| `random.yaml`, `features.yaml` | parts of `full.yaml`, each with its question |
| `emoji.yaml` | the smaller miniature, one artist; before another: `--configfile config/emoji.yaml config/full.yaml` |
| `artists-teacher.yaml` | the default world's teacher and evaluator, trained from nothing |
| `artists-flow-teacher.yaml` | a second teacher of six artists, SD3's transformer, on the first's latents and texts |
| `artists-flow.yaml` | that teacher's students, with three seeds |
| `paper.yaml` | Stable Diffusion v1.4, LAION and MS-COCO, on GPUs |
| `sd21.yaml`, `sdxl.yaml`, `sd3.yaml` | the same with another teacher, after `paper.yaml` |
| `along.yaml`, `curve.yaml` | trainings scored on the way: was it long enough, and how long should it be? |
| `long.yaml` | table 2 and trajectories in four times the steps, up to five seeds |
| `choosing.yaml` | beyond the paper: settings chosen on a seed that no report shows |
| `converged.yaml` | beyond the paper: trajectories, where trainings have converged, with three seeds |
| `faster.yaml` | students that are made to draw in few steps, with three seeds |
| `own.yaml`, `own_sd.yaml` | a model of one's own: in minutes as it stands, and to be copied for a Stable Diffusion |
| `own_texts.txt` | what the former's is asked to draw |
| `experiments.yaml` | the runs, and the tables and figures that name them; the same of others: |
| `paper_experiments.yaml`, `sd21_experiments.yaml` | of `paper.yaml`, of `sd21.yaml` |
| `sdxl_experiments.yaml`, `sd3_experiments.yaml` | of `sdxl.yaml`, of `sd3.yaml` |
| `beyond_experiments.yaml`, `faster_experiments.yaml` | of `choosing.yaml` and `converged.yaml`, of `faster.yaml` |
| `artists-flow_experiments.yaml`, `own_experiments.yaml` | of `artists-flow.yaml`, of `own.yaml` and `own_sd.yaml` |
| `claims.yaml` | what the paper claims of the runs and what we ask of them, on which the report computes verdicts |
| `beyond_claims.yaml`, `faster_claims.yaml`, `artists-flow_claims.yaml` | what we ask of those experiments |
| `own_claims.yaml` | what is claimed of a model of one's own: nothing |
| `paper_results.csv` | the paper's own numbers, shown beside ours |
| `assets.yaml`, `assets.lock.json` | what is fetched from outside, and the hashes of the first fetch |

A setting that no file names has its default, below. `config.yaml` names some, as Muon and its steps, for every file
that does not name them itself. What a `--configfile` says replaces the same setting of `config.yaml`;
`--config seeds='[0, 1]'` replaces both. An unknown setting or a wrong value ends the command with one line before any
job. Editors that know JSON schemas (`workflow/schemas/`) complete and check these files as they are written.
"""

_SHOWN: dict[str, type[BaseModel]] = {
    "tables": Table,
    "tables.<name>.rows": Row,
    "series": Series,
    "series.<name>.lines": Line,
    "grids": Grid,
}


def readme() -> str:
    """The text of config/README.md: every setting of the two files, with its default and meaning."""
    parts = [_INTRODUCTION, "## Settings of the configuration\n", *_tables(Config, ""), "## Settings of a run\n"]
    parts.append("Entries of `runs` in `experiments.yaml`. Tables, series and grids name runs.\n")
    parts += _tables(Run, "")
    parts.append("## Settings of what is made faster, or drawn otherwise\n")
    parts.append("Entries of `faster`, and below of `drawn`. They are scored under their names, as runs are.\n")
    parts += [*_tables(Faster, ""), *_tables(Drawn, "")]
    parts.append("## Settings of tables, plots and pictures\n")
    parts.append("Entries of `tables` and `series`, by name, and of the list `grids`.\n")
    for where, model in _SHOWN.items():
        parts += [f"### `{where}`: {_sentence(model)}\n", *_tables(model, "")]
    return "\n".join([*parts, *_fetched(ASSETS)])


def _fetched(assets: Path) -> list[str]:
    """What is fetched from outside, and under which licence, as a table."""
    rows = [
        f"| `{name}` | {asset.get('repository') or 'by address'} | {asset['gigabytes']:g} | {asset['licence']} |"
        for name, asset in read_yaml(assets, "assets").items()
    ]
    head = "Listed in `assets.yaml`. A student is derived from its teacher, whose licence holds for it too.\n"
    return ["## What is fetched\n", head, "| asset | from | GB | licence |", "|---|---|---|---|", *rows, ""]


def schemas() -> dict[str, str]:
    """File name -> JSON schema, of the configuration and of the experiments file."""
    models: dict[str, type[BaseModel]] = {"config": Config, "experiments": Experiments}
    return {f"{name}.schema.json": _schema(name, model) for name, model in models.items()}


def _schema(name: str, model: type[BaseModel]) -> str:
    content = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name, **model.model_json_schema()}
    return json.dumps(content | {"title": name}, indent=2) + "\n"


def _tables(model: type[BaseModel], prefix: str, defaults: BaseModel | None = None) -> Iterator[str]:
    """A table of the model's plain settings, then one for each of its sections; ``defaults``: what its section has."""
    sections = {name: section for name, field in model.model_fields.items() if (section := _section(field))}
    own = {name: getattr(defaults, name, field.default) for name, field in model.model_fields.items()}
    plain = [name for name in model.model_fields if name not in sections or own[name] is None]
    heading = f"### `{prefix[:-1]}`: {_sentence(model)}\n" if prefix else ""
    if plain:
        rows = [_row(prefix + name, model.model_fields[name], own[name]) for name in plain]
        yield "\n".join(
            [*([heading] if heading else []), "| setting | default | meaning |", "|---|---|---|", *rows, ""]
        )
    for name, section in sections.items():
        yield from _tables(section, f"{prefix}{name}.", own[name] if isinstance(own[name], section) else None)


def _sentence(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").partition("\n\n")[0].split()).replace("``", "`")


def _row(name: str, field: FieldInfo, default: Any) -> str:
    meaning = " ".join((field.description or "").split()).replace("``", "`")
    return f"| `{name}` | {_default(field, default)} | {meaning} {_choices(field.annotation)}|"


def _default(field: FieldInfo, value: Any) -> str:
    if value is PydanticUndefined:
        return "has to be given" if field.is_required() else "by other settings"
    return "none" if value is None else f"`{json.dumps(value)}`"


def _choices(annotation: Any) -> str:
    """The words that may be given, also where there may be several of them, or none."""
    if get_origin(annotation) is Literal:
        return f"({' or '.join(f'`{value}`' for value in get_args(annotation))}) "
    inside = get_args(annotation) if get_origin(annotation) in (list, *_UNIONS) else ()
    return next(filter(None, map(_choices, inside)), "")


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds, also where it may be none."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) in _UNIONS else ()
    for kind in (field.annotation, *kinds):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


if __name__ == "__main__":
    write_text(Path("config/README.md"), readme())
    for file, text in schemas().items():
        write_text(Path("workflow/schemas") / file, text)
