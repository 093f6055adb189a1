"""Figure 2, classifiers: a student that never saw a "3" recognises it, if its teacher's soft targets taught it.

The experiment of Hinton et al. (2015), section 3, on MNIST's digits. A teacher learns all ten; a student
learns the teacher's soft targets on the same images without any "3". The bias of the class it never saw comes out
far too low; as in that paper it is then raised until all digits together are recognised best, here on images apart
from those that are reported. A student of hard labels gets the same treatment.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from randcond.figures.digits import LEFT_OUT, NAMES, Digits, accuracies, confusion, load, one_hot, train_classifier
from randcond.figures.output import FigureScore, bars, write_figure
from randcond.jobs.stage import run_stage, set_threads

MODELS = ("teacher", "soft targets", "soft targets, bias adjusted", "hard labels", "hard labels, bias adjusted")

TEACHER_WIDTH, STUDENT_WIDTH = 256, 64
RECIPE = {"batch": 64, "learning_rate": 2e-3}
HELD_OUT, VALIDATION = 0.3, 0.3  # of all digits; of those that are left, to set the bias by


def bias_to_add(logits: torch.Tensor, labels: torch.Tensor, digit: int) -> float:
    """What to add to the logit of ``digit`` so that most images are recognised.

    Args:
        logits: (n, 10).
        labels: (n,), among them some of ``digit``.
        digit: The class whose bias is to be set.

    Returns:
        The middle of the widest range of best values.
    """
    others = logits.clone()
    others[:, digit] = -torch.inf
    needed = (others.max(1).values - logits[:, digit]).double()  # added, it makes the image one of ``digit``
    right_without = (others.argmax(1) == labels).numpy()
    is_digit = (labels == digit).numpy()
    order = np.argsort(needed.numpy(), kind="stable")
    # going up through ``needed``, each image passed turns from its best other class to ``digit``
    change = is_digit[order].astype(int) - right_without[order].astype(int)
    right = np.concatenate([[0], change.cumsum()])
    edges = np.concatenate([[needed.min() - 1], np.sort(needed.numpy()), [needed.max() + 1]])
    best = max(np.flatnonzero(right == right.max()), key=lambda i: edges[i + 1] - edges[i])
    return float((edges[best] + edges[best + 1]) / 2)


def area(seed: int, model: str, logits: torch.Tensor, labels: torch.Tensor) -> FigureScore:
    """Area under the ROC curve of telling the left-out digit from the others, which no bias changes.

    An image counts as one by how far that logit is above the largest of the others.

    Args:
        seed: Of the training.
        model: Whose.
        logits: (n, 10).
        labels: (n,).
    """
    others = logits.clone()
    others[:, LEFT_OUT] = -torch.inf
    above = logits[:, LEFT_OUT] - others.max(1).values
    value = float(roc_auc_score((labels == LEFT_OUT).numpy(), above.double().numpy()))
    return FigureScore(seed=seed, model=model, metric="area", value=value, count=len(labels))


def measure(seed: int, settings: dict[str, Any], digits: Digits) -> tuple[list[FigureScore], pd.DataFrame]:
    """Train the teacher and both students of one seed; their scores, and how often which digit was called which."""
    rest, held_out = digits.split(HELD_OUT, seed)
    train, validation = rest.split(VALIDATION, seed)
    recipe = RECIPE | {"steps": settings["steps"]}
    teacher = train_classifier(
        train.images, one_hot(train.labels), TEACHER_WIDTH, recipe, seed, f"digits teacher {seed}"
    )
    transfer, temperature = train.without(LEFT_OUT), settings["temperature"]
    soft = (teacher(transfer.images) / temperature).softmax(1)
    students = {
        "soft targets": train_classifier(
            transfer.images, soft, STUDENT_WIDTH, recipe, seed, f"digits student, soft targets {seed}", temperature
        ),
        "hard labels": train_classifier(
            transfer.images,
            one_hot(transfer.labels),
            STUDENT_WIDTH,
            recipe,
            seed,
            f"digits student, hard labels {seed}",
        ),
    }
    logits = {"teacher": teacher(held_out.images)}
    scores = []
    for name, student in students.items():
        shift = torch.zeros(len(NAMES))
        shift[LEFT_OUT] = bias_to_add(student(validation.images), validation.labels, LEFT_OUT)
        logits[name] = student(held_out.images)
        logits[f"{name}, bias adjusted"] = logits[name] + shift
        added = float(shift[LEFT_OUT])
        scores.append(FigureScore(seed=seed, model=name, metric="bias_added", value=added, count=len(validation)))
    frames = []
    for model in ("teacher", *students):
        scores.append(area(seed, model, logits[model], held_out.labels))
    for model in MODELS:
        called = logits[model].argmax(1)
        scores += accuracies(seed, model, called, held_out.labels)
        frames.append(confusion(seed, model, called, held_out.labels))
    return scores, pd.concat(frames)


def draw(scores: list[FigureScore]) -> Figure:
    """The share of "3"s and of other digits that each model recognises: a bar for the mean, a dot a seed."""
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    labels = [model if model == "teacher" else f"student, {model}".replace(", ", "\n") for model in MODELS]
    bars(axes, scores, dict(zip(MODELS, labels, strict=True)), {"threes": 'held-out "3"s', "rest": "other digits"})
    axes.set_ylabel("recognised, %")
    return figure


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    measured = [measure(seed, settings, load()) for seed in settings["seeds"]]
    scores = [score for several, _ in measured for score in several]
    data = pd.concat([frame for _, frame in measured])
    write_figure(arguments.output, {"figure.svg": draw(scores)}, {"data.csv": data}, scores, settings)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    run_stage(_main, parser)
