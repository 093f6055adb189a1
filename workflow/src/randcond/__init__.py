"""Random conditioning with distillation, as a pipeline's stages; ``conditioning`` is for anybody's training script."""

import gc
import os

if "RANDCOND_JOB" in os.environ:
    # A job begins with loading libraries, whose objects stay: looking for garbage among them is a fifth of that time.
    gc.disable()  # until stage.run_stage
