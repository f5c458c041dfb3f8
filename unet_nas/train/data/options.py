"""Augmentation, as the section ``train`` describes it (imports no torch)."""

from __future__ import annotations

from unet_nas.operators.fields import Flag, Options


class Augment(Options):
    """Random changes of training patches; each fits one, two and three dimensions."""

    flip: Flag = True
