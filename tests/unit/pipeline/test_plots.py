import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from tunewright.pipeline.plots import IntervalRow, Series, bar_chart, interval_chart, line_chart, ticks

numbers = st.floats(-1e6, 1e6)


@given(numbers, numbers)
def test_ticks_are_few_sorted_and_inside_the_range(one: float, two: float):
    low, high = min(one, two), max(one, two)
    found = ticks(low, high)
    slack = (high - low) * 1e-6 + 1e-9
    assert 1 <= len(found) <= 12
    assert found == sorted(found)
    assert all(low - slack <= tick <= high + slack for tick in found)


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 20)), max_size=50))
def test_a_line_chart_is_well_formed_whatever_the_points(points: list[tuple[int, float]]):
    ElementTree.fromstring(line_chart([Series("loss", points)], x_label="step", y_label="nats"))


def test_a_label_cannot_break_out_of_the_picture():
    svg = bar_chart({"<script>alert('x')</script>": 1.0}, unit='rows "in"')
    assert "<script>" not in svg
    ElementTree.fromstring(svg)


def test_an_interval_chart_draws_each_estimate_between_its_ends():
    row = IntervalRow("exact better_than base", 0.5, 0.4, 0.6, "pass")
    root = ElementTree.fromstring(interval_chart([row], x_label="difference"))
    span = next(e for e in root.iter() if e.get("class") == "span pass")
    mark = next(e for e in root.iter() if e.get("class") == "mark pass")
    assert float(span.get("x1", "nan")) < float(mark.get("cx", "nan")) < float(span.get("x2", "nan"))
