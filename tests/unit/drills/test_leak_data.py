from itertools import combinations
from pathlib import Path

from tunewright.core.text import jaccard, signature
from tunewright.drills.leak_data import FORMS, TEAMS, UNLIKE, LeakRows, make_rows, write_leak_data


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path):
    rows = LeakRows(routing=12, lookup=10, fresh=5)
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_leak_data(tmp_path / name, rows, seed=seed)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["fresh-lookup.jsonl", "fresh-routing.jsonl", "lookup.jsonl", "routing.jsonl"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
        assert (tmp_path / "one" / file).read_bytes() != (tmp_path / "other" / file).read_bytes()
    assert len((tmp_path / "one" / "lookup.jsonl").read_text().splitlines()) == 10


def test_no_two_prompts_are_alike_so_that_fresh_rows_are_fresh():
    for form in FORMS:
        shingles = [signature(row.prompt) for row in make_rows(form, 80, seed=3)]
        assert max(jaccard(a, b) for a, b in combinations(shingles, 2)) < UNLIKE


def test_more_rows_begin_with_the_same_ones():
    assert make_rows("lookup", 30, seed=5)[:10] == make_rows("lookup", 10, seed=5)


def test_a_message_decides_its_team_as_often_as_asked():
    def explained(share: float) -> float:
        rows = make_rows("routing", 300, seed=1, explained=share)
        return sum(row.prompt.split()[-1] in TEAMS[row.answer] for row in rows) / len(rows)

    assert explained(1.0) == 1.0
    assert 0.65 < explained(0.75) < 0.85


def test_a_code_can_hardly_be_guessed():
    answers = [row.answer for row in make_rows("lookup", 200, seed=1)]
    assert max(answers.count(code) for code in answers) <= 10
