"""Settings of students that are made faster, and of rows that are drawn otherwise than their run is."""

from pydantic import model_validator

from randcond.method.conditioning import TRAIN_TIMESTEPS
from randcond.settings.fields import DrawingSteps, GridName, Positive, Section


class Faster(Section):
    """A finished student that learns to draw in few steps without guidance (``method/consistency.py``)."""

    grid: GridName = "default"
    """``full`` for one of the full grid only."""
    student: str
    """The run whose finished students it starts from, seed by seed. Its D is theirs, always rendered."""
    random_conditioning: bool = True
    """Swap texts as that run does, by its p(t) and with its text pool; false: each image keeps its own text."""
    phases: Positive = 4
    """Parts of the way from noise to image that the student learns to jump over; 1: all of it, as LCM."""
    times: Positive = 32
    """Steps of the sampler whose way that is."""
    steps: Positive = 4
    """Denoising steps that it is drawn with."""

    @model_validator(mode="after")
    def _divides(self) -> "Faster":
        if self.times % self.phases:
            raise ValueError(f"times: {self.times} cannot be cut into {self.phases} phases")
        if self.phases == 1 and TRAIN_TIMESTEPS % self.times:
            raise ValueError(f"times: of one phase a divisor of {TRAIN_TIMESTEPS}, for LCM's sampler, not {self.times}")
        if fault := self.fault(self.steps):
            raise ValueError(fault)
        return self

    def fault(self, steps: int) -> str | None:
        """Why diffusers' sampler cannot draw it in so many steps, where it cannot."""
        if self.phases == 1:
            return f"steps: of one phase at most its {self.times} times, not {steps}" if steps > self.times else None
        if round(TRAIN_TIMESTEPS / steps) > TRAIN_TIMESTEPS // steps:
            return f"steps: the last of {steps} would end just above no noise ({TRAIN_TIMESTEPS} / {steps} rounded up)"
        return None


class Drawn(Section):
    """A finished student, or the teacher, drawn in another number of steps than it is elsewhere."""

    grid: GridName = "default"
    """``full`` for one of the full grid only."""
    run: str
    """A run, one that was made faster, or ``teacher``."""
    steps: DrawingSteps
    """Denoising steps."""
