"""Draw feature maps of networks on one image at several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradconv.figures import SCREEN, Style, settle
from gradconv.nn.feature_maps import FeatureMaps

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_feature_maps(
    data: FeatureMaps, channels: Sequence[int] = (0,), title: str = "", style: Style = SCREEN
) -> Figure:
    """Draw a row a network and channel, a column a mesh; one colour scale a row.

    Parameters
    ----------
    data : FeatureMaps
        From `feature_maps`.
    channels : sequence of int
        Channels to draw.
    title : str
        Headline on screen.
    style : Style
        Sizes and fonts.

    Returns
    -------
    matplotlib.figure.Figure
        Not attached to any window.
    """
    from matplotlib.figure import Figure

    rows = [(name, c) for name in data.maps for c in channels]
    em = style.font / 72.0
    few = len(data.sizes) < 3
    width = style.column if few else style.full
    high, wide = next(iter(data.maps.values()))[-1].shape[1:]
    side = (width - 2.0 * em) / len(data.sizes) - 0.8 * em
    head = title if not style.paper else ""
    with style.apply():
        height = len(rows) * (side * high / wide + 2.9 * em) + (2.6 * em if head else 0.4 * em)
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
        axes = figure.subplots(len(rows), len(data.sizes), squeeze=False)
        for line, (name, channel) in zip(axes, rows, strict=True):
            finest = data.maps[name][-1][channel]
            low, most = (float(v) for v in np.quantile(finest, (0.005, 0.995)))
            for axis, values, apart in zip(
                line, data.maps[name], data.differences[name], strict=True
            ):
                axis.imshow(values[channel], cmap="cividis", vmin=low, vmax=most)
                axis.set_xticks([])
                axis.set_yticks([])
                cells = f"{values.shape[1]} × {values.shape[2]}"
                note = f"{100 * apart:.2g} % from the finest" if apart else "finest"
                axis.set_title(f"{cells}\n{note}", fontsize="small", pad=0.3 * style.font)
            label = f"{name}, channel {channel}" if len(channels) > 1 else name
            line[0].set_ylabel(label)
        if head:
            figure.suptitle(head)
        settle(figure)
    return figure
