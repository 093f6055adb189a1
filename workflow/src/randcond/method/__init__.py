"""The paper's idea, and what goes beyond it.

The paper: ``conditioning`` is p(t) and the swap (its figure 4 and appendix D), ``losses`` are L_out and L_feat,
``student``, ``catalogue`` and ``unet_students`` the students of its table 4. ``noise_level`` carries p(t) to other
schedules, ``transformer_students`` the students to other teachers.

Beyond: ``measured``, ``curve`` and ``sensitivity`` (p(t) from the teacher), ``trajectories``, ``inherit``,
``consistency``.
"""
