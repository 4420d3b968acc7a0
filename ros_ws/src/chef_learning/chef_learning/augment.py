# SPDX-License-Identifier: Apache-2.0
"""Random shifts of camera images while learning (Kostrikov et al. 2020, DrQ, arXiv 2004.13649); never when acting."""

from __future__ import annotations

import torch


def draw_offsets(images: int, batch: int, pad: int, generator: torch.Generator,
                 part: slice = slice(None)) -> torch.Tensor:
    """[images, B, 2] of dy, dx in 0 .. 2 * pad; of the whole batch, then the part that this process works on."""
    return torch.randint(2 * pad + 1, (images, batch, 2), generator=generator, device=generator.device)[:, part]


def shift(images: torch.Tensor, offsets: torch.Tensor, pad: int) -> torch.Tensor:
    """Images padded by `pad` copies of their edge and cut out again at an offset, each at its own.

    Args:
      images: [B, H, W, C], any dtype.
      offsets: [B, 2], dy and dx in 0 .. 2 * pad; (pad, pad) leaves an image as it is.
    """
    batch, height, width, _ = images.shape
    # instead of padding: a row or column beyond the edge is the edge's
    index = [(torch.arange(size, device=images.device) + offsets[:, i, None] - pad).clamp(0, size - 1)
             for i, size in enumerate((height, width))]
    each = torch.arange(batch, device=images.device)[:, None, None]
    return images[each, index[0][:, :, None], index[1][:, None, :]]
