import pytest

from tunewright.cli.progress import BarProgress, PlainProgress


def test_a_stage_of_unknown_size_shows_no_invented_total(capsys: pytest.CaptureFixture[str]):
    progress = BarProgress()
    progress.start("train", 141, "steps")
    progress.start("curate")
    progress.update(399)
    progress.finish("curated 399 rows")
    shown = capsys.readouterr().err
    assert "curated 399 rows" in shown
    assert "/141" not in shown
    assert "/100" not in shown


def test_plain_lines_name_stage_size_and_summary(capsys: pytest.CaptureFixture[str]):
    progress = PlainProgress()
    progress.start("train", 1234, "steps")
    progress.update(1)  # too soon after the start to be said
    progress.finish("run shop@1")
    assert capsys.readouterr().err == "train: 1,234 steps ...\nrun shop@1\n"
