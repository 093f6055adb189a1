"""Names of the students and of their feature pairs, where the configuration finds them without loading torch."""

from typing import Literal, get_args

BLOCK_STUDENTS = ("b-base", "b-small", "b-tiny")
# (part, whole) of the teacher's widths: SD v1.4's 320 becomes 256, 224, 192 and 160
CHANNEL_STUDENTS = {"c-base": (4, 5), "c-small": (7, 10), "c-tiny": (3, 5), "c-micro": (1, 2)}
STUDENTS = (*BLOCK_STUDENTS, *CHANNEL_STUDENTS)  # the paper's
# of UNets with stacks of transformer layers, as SDXL's: pairs a stage, layers by stage, the middle's kind, and layers
# of the up blocks, innermost first, where they are not the same
STACK_STUDENTS = {
    "koala-1b": (1, (1, 2, 6), "UNetMidBlock2DCrossAttn", None),
    "koala-700m": (1, (1, 2, 5), None, None),
    "ssd-1b": (2, (1, 2, 4), "UNetMidBlock2D", ((4, 4, 10), (2, 1, 1), 1)),
}
# of joint transformers, as SD3's: (part, whole) of the blocks, or of the heads and so of the width
DEPTH_STUDENTS = {"half-depth": (1, 2), "third-depth": (1, 3)}
WIDTH_STUDENTS = {"two-thirds-width": (2, 3), "half-width": (1, 2)}
UNET_STUDENTS = (*STUDENTS, *STACK_STUDENTS)
TRANSFORMER_STUDENTS = (*DEPTH_STUDENTS, *WIDTH_STUDENTS)
# the rules that make them, by the module that has them
RULES = {
    "randcond.method.unet_students": UNET_STUDENTS,
    "randcond.method.transformer_students": TRANSFORMER_STUDENTS,
}
KNOWN_STUDENTS = tuple(name for names in RULES.values() for name in names)
NARROW_STUDENTS = (*CHANNEL_STUDENTS, *WIDTH_STUDENTS)  # which have no layer of the teacher's shape to copy
# which modules' outputs the feature loss compares; they are the same for B-Base, B-Small and students of transformers
Features = Literal["blocks", "authors", "authors-effective"]
FEATURES = get_args(Features)


def best_features(student: str) -> Features:
    """What a student is compared by unless its run says so: what drew better in the artists' world.

    Measured on C-Base; B-Tiny's three did not differ (docs/runs/features.txt).
    """
    return "authors-effective" if student in CHANNEL_STUDENTS else "blocks"
