"""The claims file: what the paper claims of its runs, and what we ask of ours, as comparisons to be judged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from randcond.jobs.errors import UserError
from randcond.jobs.yaml_file import read_yaml
from randcond.method.conditioning import probability
from randcond.settings.experiments import Run
from randcond.settings.fields import Section, Split, validated

SAME_SHARE = 0.005  # shares that differ by no more than this are equal


def swapped(random_conditioning: dict[str, Any], trajectories: float = 0.0) -> float:
    """The share of a batch's texts that random conditioning swaps.

    Args:
        random_conditioning: p(t), as a run has it.
        trajectories: Share of the batch that comes off the teacher's own trajectories, whose texts are their own.
    """
    share: float = probability(random_conditioning).share * (1 - trajectories)
    return share


class Pair(Section):
    """Two runs: ``better`` should beat ``than``."""

    better: str
    than: str


class Claim(Pair):
    """A sentence of the paper and the comparison that tests it.

    Attributes:
        text: The sentence.
        source: Where the paper says so.
        metrics: Compared one by one, a verdict each.
        split: The prompts that are compared.
        as_good: The claim is that ``better`` is as good as ``than``, short of it by at most a part of the way from
            there to the teacher.
        more_than: For "the gain is larger here than there": the pair there.
        figure: For a claim of the paper's figures 2, 3 and 5: which one. ``better`` and ``than`` are then two of the
            shares it measures, ``<metric>`` or ``<metric>, <model>``, and the metric is ``share``.
        unequal_share: The runs swap unequal shares of their texts by random conditioning, and the claim is made all the
            same: what it finds may be the share's doing. Without this such a claim is refused.
        near_t: The timestep that a figure's shares are of; the nearest one that it has.
        central: What all stands or falls by: the report opens with it.
    """

    text: str
    source: str
    metrics: list[
        Literal["fid", "fid_clean", "kid", "is", "clip", "named", "style", "agreement", "latents", "share"]
    ] = Field(min_length=1)
    split: Split = "all"
    as_good: bool = False
    more_than: Pair | None = None
    unequal_share: bool = False
    figure: Literal["digits-classifier", "digits-diffusion", "swapped-condition", "toy"] | None = None
    near_t: int | None = None
    central: bool = False

    @model_validator(mode="after")
    def _makes_sense(self) -> "Claim":
        if self.more_than is not None and self.as_good:
            raise ValueError("as_good: a comparison of two gains (more_than) takes no tolerance")
        if ("share" in self.metrics) != (self.figure is not None) or (self.figure and self.metrics != ["share"]):
            raise ValueError("metrics: share is the one metric of a claim on a figure, and of no other")
        if self.figure and (self.as_good or self.more_than or self.unequal_share):
            raise ValueError("figure: a claim on a figure compares two of its shares, nothing else")
        if self.near_t is not None and self.figure is None:
            raise ValueError("near_t: only figures have timesteps")
        return self

    @property
    def compared(self) -> list[str]:
        """All that the claim compares: runs, or a figure's shares."""
        pairs = [self, self.more_than] if self.more_than else [self]
        return [one for pair in pairs for one in (pair.better, pair.than)]

    @property
    def runs(self) -> list[str]:
        """All runs that the claim compares."""
        return [] if self.figure else self.compared

    def check_shares(self, runs: Mapping[str, Run]) -> None:
        """Raise :class:`UserError` if runs swap unequal shares of their texts and the claim does not say so.

        Runs without random conditioning have no share. Where runs are missing, the claim is not tested.

        Args:
            runs: What the experiments file says of them.
        """
        if any(name != "teacher" and name not in runs for name in self.runs):
            return
        made = {name: runs[name] for name in self.runs if name != "teacher"}
        shares = {
            name: swapped(run.random_conditioning, run.trajectories.share if run.trajectories else 0.0)
            for name, run in made.items()
            if run.random_conditioning
        }
        unequal = max(shares.values(), default=0.0) - min(shares.values(), default=0.0) > SAME_SHARE
        if unequal != self.unequal_share:
            shown = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
            fault = (
                "has runs of unequal share; compare runs of equal share, or say unequal_share: true"
                if unequal
                else "says unequal_share, but its runs have one share; leave it out"
            )
            raise UserError(f"claims: {self.text!r} {fault} ({shown})")


class Claims(Section):
    """The claims file.

    Attributes:
        claims: What the paper claims.
        questions: What we ask, put as a claim and judged by the same standard, in a ledger of its own.
    """

    claims: list[Claim] = []
    questions: list[Claim] = []

    @property
    def every(self) -> list[Claim]:
        """The paper's and ours."""
        return [*self.claims, *self.questions]


def load_claims(path: Path) -> Claims:
    """The claims file. Claims on runs that an experiments file lacks are not tested there, and the report says so.

    Raises:
        UserError: If it is missing, no YAML, or wrong.
    """
    return validated(Claims, read_yaml(path, "claims"), str(path))
