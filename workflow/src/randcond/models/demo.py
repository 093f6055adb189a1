"""A local page on which teacher and students draw side by side: ``python -m randcond.models.demo``.

It needs the extra ``demo``. The page is for this machine alone: it listens at 127.0.0.1, and loads and sends nothing.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusers import DiffusionPipeline
from PIL import Image

from randcond.jobs.errors import UserError, lacks_memory, of_the_machine
from randcond.models import finished
from randcond.models.draw import enlarged
from randcond.models.finished import Wish
from randcond.settings.config import Config, read_config
from randcond.settings.fields import validated

if TYPE_CHECKING:
    import gradio

_KEPT = 4  # pipelines that stay loaded
_CSS = """
#pictures .grid-wrap { height: auto; max-height: none }
#pictures .caption-label { max-width: 96%; white-space: normal }
"""  # all pictures at once, whole captions
Shown = list[tuple[Image.Image, str]]


def drawn(config: Config, names: list[str], wish: dict[str, Any]) -> Iterator[Shown]:
    """The pictures of teacher and students with their captions, one more each time.

    Raises:
        UserError: If a student is not there any more or no whole pipeline, or the wish is none.
    """
    pictures: Shown = []
    fast = [name for name, folder in finished.finished(config).items() if finished.made_faster(folder)]
    for name in ["teacher", *names]:
        # of a student that was made faster nobody wants many steps, nor guidance on top of its own
        own = finished.usual(config, name) if name in fast else {}
        one = finished.draw(name, _pipeline(config, name), validated(Wish, wish | own, "draw"))
        pictures.append((enlarged(one.image), f"{name}: {one.numbers}"))
        yield list(pictures)


@lru_cache(_KEPT)
def _load(folder: Path, teacher: Path, precision: str) -> DiffusionPipeline:
    return finished.load(folder, teacher, precision)


def _pipeline(config: Config, name: str) -> DiffusionPipeline:
    teacher = Path(config.teacher_folder)
    folder = teacher if name == "teacher" else finished.finished(config)[finished.find(config, name)]
    return _load(folder, teacher, config.sampling.precision)


def _told(error: Exception) -> str | None:
    """What the page says of it; None of what nobody foresaw. Where memory is at its end pipelines make room."""
    if not lacks_memory(error):
        return str(error) if isinstance(error, UserError) else of_the_machine(error)
    _load.cache_clear()
    return "out of memory; the pipelines that stayed loaded are gone now: draw again, with fewer students"


def page(config: Config) -> "gradio.Blocks":
    """The page.

    Raises:
        UserError: If gradio is not installed.
    """
    gradio = _gradio()
    students = list(finished.finished(config))

    def draw(prompt: str, names: list[str], steps: int, guidance_scale: float, seed: int) -> Iterator[Shown]:
        wish = {"prompt": prompt, "seed": seed, "steps": steps, "guidance_scale": guidance_scale}
        try:
            yield from drawn(config, names, wish)
        except Exception as error:
            if (said := _told(error)) is None:
                raise
            raise gradio.Error(said, print_exception=False) from None

    sampling = config.sampling
    with gradio.Blocks(title="randcond", analytics_enabled=False) as blocks:
        gradio.Markdown("# Teacher and students, from the same noise")
        with gradio.Row():
            with gradio.Column(scale=1):
                prompt = gradio.Textbox("a tiger on a red background", label="Prompt", lines=2, max_lines=4)
                names = gradio.CheckboxGroup(
                    students,
                    value=students[:1],
                    label="Students",
                    info="run / seed of the training",
                    visible=bool(students),
                )
                if not students:
                    gradio.Markdown(
                        "No student is finished yet: the teacher draws alone. Run `snakemake` with the same"
                        " configuration to train some."
                    )
                steps = gradio.Slider(1, 100, value=sampling.steps, step=1, label="Steps")
                guidance = gradio.Slider(
                    1, 15, value=sampling.guidance_scale, step=0.5, label="Guidance scale (1: none)"
                )
                seed = gradio.Number(sampling.seed, label="Seed of the noise", precision=0, minimum=0)
                button = gradio.Button("Draw", variant="primary")
            with gradio.Column(scale=2):
                pictures = gradio.Gallery(label="Pictures", columns=2, format="png", elem_id="pictures")
        for event in (button.click, prompt.submit):
            event(draw, [prompt, names, steps, guidance, seed], pictures, api_visibility="private")
    return blocks


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ModuleNotFoundError:
        raise UserError("demo: gradio is not installed; make demo installs it, beside .venv") from None
    return gradio


def serve(config: Config, port: int | None) -> Any:
    """Show the page at 127.0.0.1; the server, whose thread is to be waited for or closed."""
    blocks = page(config)
    theme = _gradio().themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    blocks.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        theme=theme,
        css=_CSS,
        footer_links=[],
        prevent_thread_lock=True,
        quiet=True,
    )
    return blocks


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, nargs="*", default=[], help="as Snakemake's")
    parser.add_argument("--port", type=int, help="left out: the first free one from 7860 on")
    arguments = parser.parse_args(argv)
    try:
        server = serve(read_config([Path("config/config.yaml"), *arguments.configfile]), arguments.port)
        print(f"{server.local_url} (Ctrl-C ends it)", flush=True)
        server.block_thread()
    except (UserError, OSError) as error:  # gradio's own of a port that is taken names it
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
