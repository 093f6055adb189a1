"""What config/README.md and the schemas say of the settings is what they are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from randcond.settings import describe
from randcond.settings.config import Config
from randcond.settings.experiments import Experiments, Grid, Line, Row, Series, Table

CONFIG = Path(__file__).parents[2] / "config"


def leaves(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_what_is_written_of_the_settings_is_what_they_are() -> None:
    assert (CONFIG / "README.md").read_text() == describe.readme(), "run `make schema`"
    for name, text in describe.schemas().items():
        assert (CONFIG.parent / "workflow/schemas" / name).read_text() == text, "run `make schema`"


def test_every_file_of_the_folder_is_named() -> None:
    text = describe.readme()
    named = set(re.findall(r"`([\w.-]+\.(?:yaml|csv|txt|json))`", text.partition("## Settings")[0]))
    there = {file.name for file in CONFIG.iterdir() if file.name != "README.md"}
    assert named == there | {"assets.lock.json"}  # which the first fetch writes


def test_settings_of_what_is_shown_are_told() -> None:
    shown = describe.readme().partition("## Settings of tables")[2]
    for where, model in {
        "tables": Table,
        "tables.<name>.rows": Row,
        "series": Series,
        "series.<name>.lines": Line,
        "grids": Grid,
    }.items():
        section = shown.partition(f"### `{where}`")[2].partition("\n##")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(model.model_fields)
    assert "| `weights` | none | Weights that are shown, " in shown and "(`raw` or `ema`) |" in shown


def test_every_setting_says_what_it_means() -> None:
    def undescribed(model: type[BaseModel], prefix: str) -> list[str]:
        found = [prefix + name for name, field in model.model_fields.items() if not field.description]
        for name, field in model.model_fields.items():
            if section := describe._section(field):
                found += undescribed(section, f"{prefix}{name}.")
        return found

    assert undescribed(Config, "") + undescribed(Experiments, "") == []
    # and every leaf stands in the table, with the default that it really has
    text = describe.readme()
    for path, value in leaves(
        Config.model_construct().model_dump()
    ):  # before teacher and evaluator come from the world
        assert f"| `{path}` | {'none' if value is None else f'`{json.dumps(value)}`'} |" in text, path


@pytest.mark.parametrize(
    "name",
    [
        "config",
        "smoke",
        "headline",
        "random",
        "full",
        "along",
        "emoji",
        "artists-teacher",
        "artists-flow",
        "paper",
        "sd21",
    ],
)
def test_files_fit_the_schema_that_editors_check_them_by(name: str) -> None:
    schema = json.loads((CONFIG.parent / "workflow/schemas/config.schema.json").read_text())
    values = yaml.safe_load((CONFIG / f"{name}.yaml").read_text())
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values | {"nonsense": 1}, schema)
