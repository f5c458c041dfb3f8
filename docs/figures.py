"""Draws the figures of ``docs/principles.md``: ``make figures``, a minute on a CPU.

All but the worked example are those of ``unet-nas diagnose --measure --figures`` for one network,
the 2015 U-Net on its own patch, and for the operators beside it.
"""

from pathlib import Path

from unet_nas import load_architecture, preset
from unet_nas.audit.diagnosis import example
from unet_nas.audit.diagnosis.diagnose import diagnose
from unet_nas.profile.diagnosis.measure import measure
from unet_nas.report.diagnosis_figures import save

FOLDER = Path(__file__).parent / "figures"
PATCH = (572, 572)


def main() -> None:
    """Draws every figure, and says what was measured."""
    whole = diagnose(preset("unet-2015"), PATCH)
    # without norms, or far down, nothing is learned in so few steps where there are no skips
    normed = load_architecture("preset:unet-2015", "norm=batch")
    shallow = load_architecture("preset:unet-2015", ("norm=batch", "depth=2"))
    measured = (
        measure(normed, PATCH, only=("effective_field", "gradients", "folding", "phases")),
        measure(shallow, only=("spectra",)),
    )
    drawn = [figure for one in measured for figure in one.figures]
    save([*example.figures(), *whole.figures(), *drawn], FOLDER, force=True)
    for finding in [finding for one in measured for finding in one.findings]:
        print(f"{finding.analysis}: {finding}")


if __name__ == "__main__":
    main()
