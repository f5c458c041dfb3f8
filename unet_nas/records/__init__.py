"""What was measured and found, as plain data: every record goes to JSON and comes back equal."""

from __future__ import annotations

from unet_nas.records.profile import (
    Conditions,
    Counts,
    Failure,
    FailureKind,
    Latency,
    Part,
    PeakMemory,
    Profile,
)
from unet_nas.records.study import (
    ObjectiveSpec,
    Point,
    Run,
    RunHeader,
    Timing,
    TrialFailure,
    TrialRecord,
    read_run,
)

__all__ = [
    "Conditions",
    "Counts",
    "Failure",
    "FailureKind",
    "Latency",
    "ObjectiveSpec",
    "Part",
    "PeakMemory",
    "Point",
    "Profile",
    "Run",
    "RunHeader",
    "Timing",
    "TrialFailure",
    "TrialRecord",
    "read_run",
]
