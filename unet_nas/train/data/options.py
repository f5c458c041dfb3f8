"""Augmentation, as the section ``train`` describes it (imports no torch)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from unet_nas.operators.fields import Flag, Options

__all__ = ["Affine", "Augment", "BiasField", "Blur", "Gamma", "Intensity", "Noise"]

_Probability = Annotated[float, Field(ge=0, le=1)]
_Strength = Annotated[float, Field(gt=0, le=10)]


class Affine(Options):
    """Rotation and scaling about the centre of the patch."""

    probability: _Probability = Field(0.2, description="share of patches that are changed")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(
        15.0, description="largest angle in degrees, in each plane; signals are not rotated"
    )
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="largest change of size: 0.2 is from 1/1.2 to 1.2"
    )


class Noise(Options):
    """Noise that is added: normal and independent at each position."""

    probability: _Probability = Field(0.2, description="share of patches that are changed")
    strength: _Strength = Field(0.1, description="largest deviation, in deviations of the patch")


class Intensity(Options):
    """Brightness is added, contrast multiplied about the mean."""

    probability: _Probability = Field(0.2, description="share of patches that are changed")
    brightness: Annotated[float, Field(ge=0, le=10)] = Field(
        0.1, description="largest shift, in deviations of the patch"
    )
    contrast: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.25, description="largest change: 0.25 is from 1/1.25 to 1.25"
    )


class Gamma(Options):
    """A power of the intensity between the patch's least and largest; keeps mean and deviation."""

    probability: _Probability = Field(0.1, description="share of patches that are changed")
    strength: Annotated[float, Field(gt=0, lt=3)] = Field(
        0.4, description="largest change of the exponent: 0.4 is from 1/1.4 to 1.4"
    )


class BiasField(Options):
    """A smooth factor over the patch, as coils of a scanner or a lamp cause."""

    probability: _Probability = Field(0.2, description="share of patches that are changed")
    strength: _Strength = Field(0.3, description="largest deviation of the logarithm of the factor")


class Blur(Options):
    """Smoothing with a Gaussian."""

    probability: _Probability = Field(0.1, description="share of patches that are changed")
    sigma: _Strength = Field(1.0, description="largest deviation, in positions")


class Augment(Options):
    """Random changes of training patches; each fits one, two and three dimensions."""

    flip: Flag | None = Field(
        None,
        description="mirror each axis every other time; null: images and volumes, not signals, "
        "which have a direction",
    )
    turn: Flag = Field(
        False, description="quarter turns in the planes where the patch is as high as wide"
    )
    affine: Affine | None = Field(
        Affine.model_construct(), description="rotation and scaling; null: none"
    )
    noise: Noise | None = Field(Noise.model_construct(), description="added noise; null: none")
    intensity: Intensity | None = Field(
        Intensity.model_construct(), description="brightness and contrast; null: none"
    )
    gamma: Gamma | None = Field(Gamma.model_construct(), description="gamma; null: none")
    bias_field: BiasField | None = Field(None, description="a smooth factor; null: none")
    blur: Blur | None = Field(Blur.model_construct(), description="smoothing; null: none")
