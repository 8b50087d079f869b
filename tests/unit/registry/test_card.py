import pytest
import yaml
from tests.fakes import fake_ports
from tests.registry_world import RECIPE, TunedEngine, make_world

from tunewright.registry.card import card
from tunewright.registry.register import register
from tunewright.registry.waive import waive


@pytest.fixture
def ports(tmp_path):
    return fake_ports(tmp_path, TunedEngine())


def test_a_card_says_what_was_checked_on_what_and_by_whom_it_was_signed(ports):
    model = register(RECIPE, make_world(ports).report, ports)
    text = card(model.ref, ports.records)
    head = yaml.safe_load(text.split("---")[1])
    assert head == {
        "base_model": "tiny",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "tunewright"],
        "model_name": "shop@1",
    }
    assert "| exact better_than base | 0.400 | 0.200 to 0.600 | - | 2 | cr2 | pass |" in text
    assert "## Verdict: pass" in text
    assert "10 of 10 rows kept (train 6, validation 2, held_out 2). Removed: none." in text
    assert model.adapter in text
    assert model.key_id in text


def test_a_waiver_stands_on_the_card_and_cannot_break_its_form(ports):
    world = make_world(ports, verdict="fail")
    waive(world.report.ref, "pilot\n# only <b>", "Ann", ports)
    text = card(register(RECIPE, world.report, ports).ref, ports.records)
    assert "- **Waived** by Ann on 2026-01-02: pilot # only &lt;b>" in text
