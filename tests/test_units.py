import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_nas.errors import InputError
from unet_nas.units import (
    format_bytes,
    format_count,
    format_duration,
    parse_bytes,
    parse_count,
    parse_duration,
    parse_memory_limit,
    parse_size,
    parse_time_limit,
)

PARSERS = [parse_bytes, parse_count, parse_duration, parse_size]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8GiB", 8 * 1024**3),
        ("8 GB", 8_000_000_000),
        ("1.5 KiB", 1536),
        ("0.1GB", 100_000_000),
        ("512", 512),
        (512, 512),
        ("1e9", 10**9),
    ],
)
def test_parse_bytes(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("5M", 5_000_000), ("31_030_658", 31_030_658), ("31,030,658", 31_030_658), ("1.2G", 1.2e9)],
)
def test_parse_count(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize(
    ("text", "seconds"), [("10ms", 0.01), ("3 min", 180), ("2h", 7200), ("7", 7), ("5µs", 5e-6)]
)
def test_parse_duration(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (
            parse_bytes,
            "8 GBB",
            "unknown unit 'GBB' in '8 GBB': a number of bytes takes B, kB, KB, MB, GB, TB, KiB, "
            "MiB, GiB, TiB; did you mean GB?",
        ),
        (
            parse_bytes,
            "-1",
            "a number of bytes must be a number ≥ 0, such as 8GiB, got '-1'",
        ),
        (
            parse_duration,
            "3 mins",
            "unknown unit 'mins' in '3 mins': a duration takes ns, us, µs, ms, s, min, h, d; "
            "did you mean min?",
        ),
        (parse_memory_limit, 4, "needs a unit: 4 means 4 bytes; fix: write 4GiB"),
        (parse_memory_limit, "1023", "needs a unit: 1023 means 1023 bytes; fix: write 1023GiB"),
        (parse_time_limit, 50, "needs a unit, as 50ms or 50s, got 50"),
        (parse_time_limit, "5e1", "needs a unit, as 5e1ms or 5e1s, got 5e1"),
        (parse_count, "1.5", "a count must be a whole number, got '1.5'"),
        (parse_count, True, "a count must be a number ≥ 0, such as 5M, got True"),
        (
            parse_size,
            "572x",
            "a size must be one to three positive integers with x between, such as 572x572 or "
            "96x96x64, got '572x'",
        ),
        (
            parse_size,
            "1000000000x16",
            "a size must be at most 999,999,999 along each axis, got '1000000000x16'",
        ),
    ],
)
def test_messages(parse, text, message):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_limits_that_need_no_unit():
    assert [parse_memory_limit(text) for text in (1024, "1_024", "4B", 0)] == [1024, 1024, 4, 0]
    assert parse_time_limit(0) == 0
    assert parse_time_limit("5e1ms") == 0.05
    assert parse_time_limit("5e1s") == 50


@pytest.mark.parametrize("text", ["0x5", "1x2x3x4", "", "x", "-1x2", "1.5x2", "٣x٣"])
def test_bad_sizes(text):
    with pytest.raises(InputError):
        parse_size(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1])
def test_bad_numbers(value):
    with pytest.raises(InputError):
        parse_duration(value)


def test_formats():
    assert format_bytes(1023) == "1,023 B"
    assert format_bytes(1024**5) == "1,024 TiB"
    assert format_count(150_428_424_448) == "150.4G"
    assert format_count(999_949) == "999.9K"
    assert format_count(999_960) == "1M"
    assert format_duration(0) == "0 s"
    assert format_duration(0.99999) == "1 s"
    assert format_duration(90_000) == "1 d 1 h"


@given(st.integers(0, 10**15))
def test_formatted_counts_are_read_back(count):
    assert parse_count(format_count(count)) == pytest.approx(count, rel=5.1e-4)


@given(st.integers(0, 2**50))
def test_formatted_bytes_are_read_back(n_bytes):
    assert parse_bytes(format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=5.1e-4, abs=1)


@given(st.sampled_from(PARSERS), st.text() | st.text("0123456789._exXGMBi ,-+", max_size=80))
def test_any_text_is_read_or_refused(parse, text):
    try:
        parse(text)
    except InputError as error:
        assert "\n" not in str(error)
