import time

import pytest

from unet_nas.profile.timing import measure_latency, quantiles


def test_latency_is_that_of_one_run() -> None:
    runs = []

    def run() -> None:
        runs.append(time.sleep(0.1))

    found = measure_latency(run, "inference", device="cpu", repeats=3, warmup=2)
    assert found.samples >= 3
    assert found.runs_per_sample == 1
    assert len(runs) >= 2 + found.samples
    # a loaded machine may oversleep, but nothing sleeps less
    assert 100 <= found.p05_ms <= found.p25_ms <= found.median_ms <= found.p75_ms <= found.p95_ms


def test_short_runs_are_timed_in_blocks() -> None:
    found = measure_latency(lambda: None, "training", device="cpu", repeats=3, warmup=0)
    assert found.runs_per_sample > 1
    assert found.median_ms < 1


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.25, 1.75), (0.9, 3.7), (1.0, 4.0)])
def test_quantiles(share: float, value: float) -> None:
    assert quantiles([4.0, 1.0, 3.0, 2.0], [share]) == [pytest.approx(value)]


def test_the_quantile_of_one_value_is_that_value() -> None:
    assert quantiles([2.0], (0.05, 0.95)) == [2.0, 2.0]
