"""The measured curve and the p(t) that follows from it, beside the paper's at the same share."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from randcond.method.conditioning import TRAIN_TIMESTEPS, Exponential
from randcond.method.curve import Sensitivity
from randcond.method.noise_level import equivalent_timesteps


def table(curve: Sensitivity, shares: Sequence[float]) -> pd.DataFrame:
    """p(t) at every timestep of Stable Diffusion v1.4: columns share, tau, t, probability, error, exponential.

    ``error`` is the standard error over images for that tau, ``exponential`` the paper's kind at the same share.
    """
    frames = [
        pd.DataFrame(
            {
                "share": share,
                "tau": curve.tau(share),
                "t": np.arange(TRAIN_TIMESTEPS),
                "probability": curve.probability(share),
                "error": curve.probability_error(share),
                "exponential": Exponential.of_share(share)(torch.arange(TRAIN_TIMESTEPS)).numpy(),
            }
        )
        for share in shares
    ]
    return pd.concat(frames)


def draw(curve: Sensitivity, shares: Sequence[float]) -> Figure:
    """Left: KL_t. Right: p(t) by share, and dashed the exponential of the same share. Bands: two standard errors."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    t, mean, error = equivalent_timesteps(torch.from_numpy(curve.log_snr)), curve.mean, curve.standard_error
    left.plot(t, mean, color="black", marker="o", markersize=3)
    low = np.maximum(mean - 2 * error, mean / 10)  # an axis of logarithms has no 0
    left.fill_between(t, low, mean + 2 * error, color="black", alpha=0.18, linewidth=0)
    left.set(yscale="log", ylabel="KL(q(x_t|c) || q(x_t|c~)), nats")
    for number, (share, rows) in enumerate(table(curve, shares).groupby("share")):
        colour, p, beside = f"C{number}", rows["probability"], rows["error"]
        right.plot(rows["t"], p, color=colour, label=f"measured, share {share:.2f}")
        right.fill_between(rows["t"], p - 2 * beside, p + 2 * beside, color=colour, alpha=0.18, linewidth=0)
        right.plot(rows["t"], rows["exponential"], color=colour, linestyle="--", label="exponential, the same share")
    right.set(ylabel="p(t)", ylim=(-0.02, 1.02))
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.set(xlabel="timestep t (0: clean, 999: noise)", xlim=(-15, 1014))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
