"""What partitions are called: a template never gives two intervals one name, and never anything but a name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_intervals import (
    INTERVALS,
    floor,
    following,
    place,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.partition_names import (
    DIRECTIVES,
    check_template,
    interval_name,
)
from hypothesis import given
from hypothesis import strategies as st

AT = datetime(2026, 11, 23, 4, 5, tzinfo=UTC)
GOOD = {
    "hour": ("{table}_{from:%Y%m%d_%H}", "log_20261123_04"),
    "day": ("{table}_p{from:%Y_%m_%d}", "log_p2026_11_23"),
    "week": ("{table}_{from:%Gw%V}", "log_2026w48"),
    "month": ("{table}_{from:%Y%m}_{to:%Y%m}", "log_202611_202612"),
    "quarter": ("{table}_{from:%Y}q{quarter}", "log_2026q4"),
    "year": ("year_{from:%Y}_of_{table}", "year_2026_of_log"),
}


def test_numbers_have_names_too():
    check_template("{table}_{from:012d}_{to}", "log", "1000")
    assert interval_name("{table}_{from:06d}_{to}", "log", place(1000), "1000") == "log_001000_2000"
    for template in ("{table}", "{table}_{from:%Y}", "{table}_{from:x}"):
        with pytest.raises(PostgresqlError, match="names: "):
            check_template(template, "log", "1000")


@pytest.mark.parametrize("interval", GOOD)
def test_templates_that_name_each_interval(interval):
    template, name = GOOD[interval]
    check_template(template, "log", interval)
    assert interval_name(template, "log", floor(AT, interval), interval) == name


@pytest.mark.parametrize(
    ("template", "interval", "said"),
    [
        ("{table}", "month", "both log"),
        ("{table}_{from:%m}", "month", "both log_01"),
        ("{table}_{from:%Y}", "month", "both log_2024"),
        ("{table}_{from:%Y%m}", "day", "both log_202401"),
        ("{table}_{from:%Y%m%d}", "hour", "both log_20240101"),
        ("{table}_{from:%Y%V}", "week", "both"),
        ("{table}_{from:%Y%V%u}", "day", "both"),
        ("{table}_{from:%Y}", "quarter", "both log_2024"),
        ("{table}_{at:%Y}", "year", "has a field {at}"),
        ("{table.__class__}_{from:%Y}", "year", "has a field {table.__class__}"),
        ("{table!r}_{from:%Y}", "year", "not a template"),
        ("{table}_{from:{to}}", "year", "not a template"),
        ("{table}_{from", "year", "not a template"),
        ("{table}_{from}", "year", "wants {from} as ''"),
        ("{table}_{from:%B}", "month", "wants {from} as '%B'"),
        ("{table}_{from:%Y%}", "year", "wants {from}"),
        ("{table:>9}_{from:%Y}", "year", "has a format for {table}"),
    ],
)
def test_others_are_refused_with_an_example(template, interval, said):
    with pytest.raises(PostgresqlError) as refused:
        check_template(template, "log", interval)
    assert said in refused.value.message and refused.value.message.startswith("names: ")
    assert "{table}_p{from:%Y%m%d}" in refused.value.remedy


@given(
    st.text(alphabet=f"%_{DIRECTIVES}", max_size=12),
    st.sampled_from(INTERVALS),
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
    st.integers(1, 2000),
)
def test_a_template_that_passes_gives_no_two_intervals_one_name(form, interval, at, count):
    template = f"{{table}}_{{from:{form}}}"
    try:
        check_template(template, "log", interval)
    except PostgresqlError:
        return
    first = floor(at, interval)
    other = following(first, interval, count)
    assert interval_name(template, "log", first, interval) != interval_name(template, "log", other, interval)
