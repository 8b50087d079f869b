from tunewright.core.keyed import keyed_hash


def test_the_same_parts_under_the_same_key_give_the_same_code():
    assert keyed_hash(b"k", "acme", "ann") == keyed_hash(b"k", "acme", "ann")


def test_parts_do_not_run_into_each_other():
    assert keyed_hash(b"k", "ab", "c") != keyed_hash(b"k", "a", "bc")


def test_another_key_gives_another_code():
    assert keyed_hash(b"k", "ann") != keyed_hash(b"l", "ann")
