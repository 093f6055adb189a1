"""Draw one picture with the teacher and a finished student, side by side: ``python -m randcond.models.draw``.

Without ``--run`` the teacher draws alone, which needs nothing but the checkout. Asked for few steps, a student that was
made faster draws, if there is one, and the teacher in its usual number.
"""

import argparse
import json
import unicodedata
from pathlib import Path
from typing import Any

from PIL import Image

from randcond.jobs.errors import one_line
from randcond.jobs.files import atomic_path
from randcond.models import finished
from randcond.models.finished import Drawn, Wish
from randcond.report.grids import FilledGrid, GridRow, shown
from randcond.report.grids import draw as draw_grid
from randcond.settings.config import Config, read_config
from randcond.settings.fields import validated

_SIZE = 256  # pixels of a picture's side, at least
_LONGEST = 199  # bytes of a file's name; filesystems take 255, and a name of what is half written is longer
_FEW = 8  # steps up to which a student that was made for them draws in the place of the one that it was made from


def side_by_side(prompt: str, pictures: list[Drawn]) -> Image.Image:
    """One picture of all: the prompt at the left, below each its name and numbers."""
    images = [enlarged(one.image) for one in pictures]
    captions = [f"{one.name}\n{one.numbers}" for one in pictures]
    return draw_grid(FilledGrid("", "", "", captions, [GridRow(shown(prompt), None, images)]))


def enlarged(image: Image.Image) -> Image.Image:
    """A small picture with pixels that can be seen."""
    factor = max(1, _SIZE // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def path_of(config: Config, wish: Wish, names: list[str]) -> Path:
    """Where the picture goes: a name that tells prompt, students and seed, fit for any filesystem."""
    prompt, rest = _slug(wish.prompt.lower()[:80]), _slug(" ".join([*names, str(wish.seed)]))
    # cut between two characters: those of most scripts have several bytes
    room = max(0, _LONGEST - len(f"-{rest}.png"))
    prompt = prompt.encode()[:room].decode(errors="ignore").strip("-")
    return Path("results", config.name, "drawn", "-".join(filter(None, [prompt, rest])) + ".png")


def _slug(text: str) -> str:
    """Letters and digits of any script, with their marks, and hyphens between."""
    kept = (one if unicodedata.category(one)[0] in "LMN" else " " for one in text)
    return "-".join("".join(kept).split())


def wish_of(config: Config, prompt: str, options: dict[str, str | None], name: str = "teacher") -> Wish:
    """The wish of a command's options; what is left out is as usual for the name, and in ``sampling``.

    Raises:
        UserError: Naming the option that is wrong.
    """
    given = {option: _number(text) for option, text in options.items() if text}
    others = {"seed": config.sampling.seed, **finished.usual(config, name)}
    return validated(Wish, {"prompt": prompt, **others, **given}, "draw")


def _number(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--run", help="a finished student, <run> or <run>/<seed>; left out: the teacher alone")
    parser.add_argument("--configfile", type=Path, nargs="*", default=[], help="as Snakemake's")
    for name in ("seed", "steps", "guidance-scale"):
        parser.add_argument(f"--{name}", help="left out: as the configuration's sampling")
    arguments = parser.parse_args(argv)
    with one_line():
        _draw(arguments)


def _draw(arguments: argparse.Namespace) -> None:
    config = read_config([Path("config/config.yaml"), *arguments.configfile])
    options = {name: getattr(arguments, name) for name in ("seed", "steps", "guidance_scale")}
    wish = wish_of(config, arguments.prompt, options)
    teacher = Path(config.teacher_folder)
    name = finished.find(config, arguments.run) if arguments.run else None
    there, wishes = finished.finished(config), {"teacher": wish}
    if options["steps"] and wish.steps <= _FEW and (faster := finished.faster(config, name)):
        name, wishes["teacher"] = faster, wish_of(config, arguments.prompt, options | {"steps": None})
    if name:
        wishes[name] = wish_of(config, arguments.prompt, options, name)
    else:
        known = ", ".join(there) or "none yet; run snakemake with the same configuration to train some"
        print(f"the teacher alone; students to name by RUN=...: {known}")
    pictures = []
    for one, its in wishes.items():
        folder = there.get(one, teacher)  # its pipeline goes before the next one is loaded
        pictures.append(finished.draw(one, finished.load(folder, teacher, config.sampling.precision), its))
        print(f"{one}: {pictures[-1].numbers}")
    path = path_of(config, wish, list(wishes)[1:])
    with atomic_path(path) as partial:
        side_by_side(wish.prompt, pictures).save(partial, "PNG")
    print(path)


if __name__ == "__main__":
    main()
