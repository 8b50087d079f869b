import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import UsageError
from tunewright.values import Ref, canonical_json, digest_json, fingerprint, merkle_root

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_reads_back_as_the_same_value(value: object):
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, int]):
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_is_not_a_number(value: float):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": value})


@pytest.mark.parametrize(
    "text", ["support", "support@0", "support@x", "@1", "Support@1", "a/b@1", "..@1", "a@1@2"]
)
def test_a_malformed_reference_is_refused_by_name(text: str):
    with pytest.raises(UsageError, match="is not a reference"):
        Ref.parse(text)


def test_a_reference_reads_back_from_its_text():
    assert Ref.parse(str(Ref("support", 12))) == Ref("support", 12)


def test_the_merkle_root_does_not_depend_on_order_but_on_every_id():
    assert merkle_root(["a", "b", "c"]) == merkle_root(["c", "a", "b"])
    assert merkle_root(["a", "b", "c"]) != merkle_root(["a", "b"])
    assert merkle_root(["a", "b", "c"]) != merkle_root(["a", "b", "d"])


def test_a_fingerprint_changes_with_code_version_and_with_every_input():
    base = fingerprint("train", 1, {"seed": 0})
    assert base != fingerprint("train", 2, {"seed": 0})
    assert base != fingerprint("train", 1, {"seed": 1})
    assert base == fingerprint("train", 1, {"seed": 0})
    assert base != digest_json({"seed": 0})
