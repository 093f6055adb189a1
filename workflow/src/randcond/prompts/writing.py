"""The loop that has captions written: examples and topics drawn for each round, lines sieved, distinct ones kept."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from randcond.jobs.errors import UserError
from randcond.jobs.progress import Progress
from randcond.jobs.seeding import numpy_generator
from randcond.worlds import World
from randcond.worlds.lines import clean

_EXAMPLES = 1  # stream of random numbers
_LINES = 8  # topics drawn for each row of a round; a row that needs more begins again
_FUTILE = 20  # first rounds; if they bring nothing, the others will not either

ContinueList = Callable[[str, Sequence[str], int], list[str]]  # (prompt, topics, round) -> captions


@dataclass(frozen=True)
class Settings:
    """How captions are written."""

    count: int  # accepted captions wanted
    batch: int  # continuations of one prompt, generated at once
    examples: int  # topics with captions of the world in a prompt
    new_tokens: int  # length of a continuation
    temperature: float
    top_p: float
    max_rounds: int  # prompts tried before giving up
    seed: int
    threads: int  # another number can change the rounding, and with it a token now and then
    heading: str = ""  # what the list of a prompt is of, in words


def write_captions(
    settings: Settings,
    world: World,
    texts: Sequence[str],
    held_out: Collection[str],
    continue_list: ContinueList,
    rounds: list[list[str]],
    save: Callable[[list[list[str]]], None],
) -> tuple[list[str], dict[str, Any]]:
    """Let the model write until enough captions are accepted.

    Args:
        settings: How many, from how many examples, and the most rounds.
        world: Names topics and screens lines.
        texts: The world's captions, from which each round's examples are drawn.
        held_out: The evaluation prompts; a line that is one of them, cleaned as lines are, is left out, so that no
            student is trained on it.
        continue_list: (prompt, topics, round) -> captions that the model wrote, one a topic as far as it came.
        rounds: Lines of the rounds that an interrupted job has done; they are not asked for again.
        save: Called with the lines of all rounds after each new one.

    Returns:
        The distinct captions in the order they were written, and the summary.

    Raises:
        UserError: If ``max_rounds`` is used up, if the first rounds bring nothing at all, or if there are fewer texts
            than examples.
    """
    if len(texts) < settings.examples:
        raise UserError(f"examples: {settings.examples} wanted, but there are only {len(texts)} captions to draw from")
    rounds, accepted, rejected = list(rounds), dict[str, None](), Counter[str]()
    left_out = set(map(clean, held_out))
    progress = Progress("llm prompts", settings.count, "captions")
    for round_ in range(settings.max_rounds):
        rng = numpy_generator(settings.seed, _EXAMPLES, round_)
        examples = [texts[i] for i in rng.choice(len(texts), settings.examples, replace=False)]
        if round_ == len(rounds):
            topics = rng.choice(list(world.topics()) or [""], settings.batch * _LINES)
            rounds.append(
                continue_list(settings.heading + _prompt(world, examples), [str(topic) for topic in topics], round_)
            )
            save(rounds)
        shown = set(map(clean, examples))
        for line in rounds[round_]:
            text, reason = world.screen(line)
            if text in left_out:
                reason = "held out"
            elif text in shown:
                reason = "copied"
            elif text in accepted:
                reason = "duplicate"
            if text is None or reason:
                rejected[reason] += 1
                continue
            accepted[text] = None
            if len(accepted) == settings.count:
                progress.at(len(accepted))
                return list(accepted), _summary(world, list(accepted), rejected)
        progress.at(len(accepted), f"{rejected.total()} lines rejected")
        if round_ + 1 == _FUTILE and not accepted:
            why = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common(3)) or "no line at all"
            raise UserError(f"prompts.llm: {_FUTILE} rounds brought no caption ({why}); try another model or heading")
    raise UserError(
        f"max_rounds: {settings.max_rounds} rounds gave {len(accepted)} captions of the {settings.count} wanted;"
        " raise max_rounds or lower count"
    )


def _prompt(world: World, examples: Sequence[str]) -> str:
    topics = [world.topic_of(text) for text in examples]
    return "".join(
        f"- {topic}: {text}\n" if topic else f"- {text}\n" for topic, text in zip(topics, examples, strict=True)
    )


def _summary(world: World, accepted: list[str], rejected: Counter[str]) -> dict[str, Any]:
    asked = len(accepted) + rejected.total()
    return {
        "asked": asked,
        "accepted": len(accepted),
        "duplicates": rejected["duplicate"],
        "filtered": rejected.total() - rejected["duplicate"],
        "rejected": {reason: rejected[reason] for reason in (*world.REASONS, "held out", "duplicate", "copied")},
        "acceptance_rate": len(accepted) / asked,
        "concepts": len({world.topic_of(text) for text in accepted}),
        "examples": accepted[:12],
        "pool": len(accepted),
    }


def prompts_table(world: World, texts: Sequence[str]) -> pd.DataFrame:
    """Captions that passed the world's ``screen`` as text, split ("seen" or "unseen") and source ("llm")."""
    return pd.DataFrame({"text": texts, "split": [world.split_of(text) for text in texts], "source": "llm"})
