"""Names of the students and of their feature pairs, where the configuration finds them without loading torch."""

BLOCK_STUDENTS = ("b-base", "b-small", "b-tiny")
# (part, whole) of the teacher's widths: SD v1.4's 320 becomes 256, 224, 192 and 160
CHANNEL_STUDENTS = {"c-base": (4, 5), "c-small": (7, 10), "c-tiny": (3, 5), "c-micro": (1, 2)}
STUDENTS = (*BLOCK_STUDENTS, *CHANNEL_STUDENTS)
# which modules' outputs the feature loss compares; they differ for B-Tiny and C-* alone
FEATURES = ("blocks", "authors", "authors-effective")
