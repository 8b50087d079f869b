"""`make demo`: the whole loop on the shipped tiny base and a generated shop; ends with a screen and a report.

Version 1 is made from the first file of orders and becomes champion; version 2 from both files, gated against
it, takes over under the traffic of simulated customers; what they correct becomes part of dataset version 3;
a bad candidate falls; two drills end it. Everything lies in one folder: data, workspace, keys, report and
summary. A second run tells what is stored.
"""

import json
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from tunewright.app import App, open_app
from tunewright.demo.fates import fates_of
from tunewright.demo.live import (
    CanaryDone,
    FlywheelDone,
    drive_rollout,
    front_desk,
    shop_customers,
    turn_the_flywheel,
)
from tunewright.demo.pages import demo_sections
from tunewright.demo.shop import read_truth, write_shop
from tunewright.demo.summary import REPORT, SUMMARY, Demo, DemoSummary, retold, summarise
from tunewright.demo.truth import planted_recall
from tunewright.drills.crash import run_crash_drill
from tunewright.drills.leak import run_leak_drill
from tunewright.drills.processes import serving
from tunewright.drills.rollback import RollbackPlan, drill_rollback
from tunewright.drills.rollback_result import RollbackResult
from tunewright.pipeline.flow import Outcome
from tunewright.pipeline.load import load_recipe
from tunewright.pipeline.report import write_report
from tunewright.ports import Progress
from tunewright.recipe import Recipe
from tunewright.records import Rollout
from tunewright.settings import Settings, load_settings
from tunewright.values import Json

ROUNDS = ("shop-v1.yaml", "shop-v2.yaml")
NEXT_ROUND = "shop-v3.yaml"
BAD_SEED = 43
BAD_STEPS = 60
BAD_REQUESTS = 1200

Phases = dict[str, float]


def run_demo(folder: Path, progress: Progress, *, fresh: bool) -> DemoSummary:
    """Run the demo in a folder, or tell what an earlier run left there; `fresh` forgets that first.

    A run that was interrupted is taken up where its records end.
    """
    folder = folder.absolute()
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    settings = _settings(folder)
    before = _read_summary(folder / SUMMARY)
    if before is not None:
        with open_app(settings, progress) as app:
            return retold(before, app.models.verify(None), folder)
    started_s = time.monotonic()
    demo = _walk(folder, settings, progress)
    summary = summarise(demo, folder, wall_s=time.monotonic() - started_s)
    second = replace(demo.rounds[-1], rollout_state=demo.good.state, next="")
    write_report(second, folder / REPORT, extra=demo_sections(demo, summary.values))
    _write(folder / SUMMARY, json.dumps(summary.values, indent=2) + "\n")  # last: it says that all is done
    return summary


def _walk(folder: Path, settings: Settings, progress: Progress) -> Demo:
    """Go through everything, once."""
    phases: Phases = {}
    with _timed(phases, "data"):
        truth = read_truth(write_shop(folder / "data").truth)
    with open_app(settings, progress) as app:
        rounds = [_round(app, name, phases) for name in ROUNDS]
        recall = planted_recall(truth, fates_of(rounds[-1].dataset, app.ports))
        good, flywheel, bad = _live(app, rounds[-1], phases, progress)
    with _timed(phases, "drill_leak"):
        leak = run_leak_drill(settings, progress)
    with _timed(phases, "drill_crash"):
        crash = run_crash_drill(settings, progress)
    with _timed(phases, "verify"), open_app(settings, progress) as app:
        verification = app.models.verify(None)
    return Demo(
        truth=truth,
        rounds=tuple(rounds),
        recall=recall,
        good=good,
        flywheel=flywheel,
        bad=bad,
        leak=leak,
        crash=crash,
        verification=verification,
        phases=phases,
    )


def _live(
    app: App, second: Outcome, phases: Phases, progress: Progress
) -> tuple[CanaryDone, FlywheelDone, RollbackResult]:
    """Serve, let version 2 take over, bring corrections back, and let a bad candidate fall."""
    with serving(app.settings) as gateway:
        target = front_desk(app, gateway, second.dataset.ref.name)
        with _timed(phases, "canary_good"):
            good = drive_rollout(app, target, _rollout_of(app, second).ref, progress)
        with _timed(phases, "flywheel"), _recipe(NEXT_ROUND) as path:
            flywheel = turn_the_flywheel(app, path, progress)
        with _timed(phases, "canary_bad"), _recipe(ROUNDS[-1]) as path:
            plan = RollbackPlan(bad_steps=BAD_STEPS, max_requests=BAD_REQUESTS, seed=BAD_SEED)
            customers = shop_customers(seed=BAD_SEED, count=BAD_REQUESTS)
            bad = drill_rollback(app, _in_short(load_recipe(path)), target, customers, plan=plan)
    return good, flywheel, bad


def _in_short(recipe: Recipe) -> Recipe:
    """Let the drill's rollout pass quickly through shadow and first stages."""
    deploy = recipe.deploy.model_copy(update={"shadow_requests": 60, "min_units": 40})
    return recipe.model_copy(update={"deploy": deploy})


def _rollout_of(app: App, outcome: Outcome) -> Rollout:
    """Find the rollout of a round's model, also when an interrupted demo had ended it before."""
    assert outcome.model is not None, "version 2 of the demo passes its gate"
    return next(one for one, _ in app.rollouts.all() if one.candidate == outcome.model.ref)


def _settings(folder: Path) -> Settings:
    """Keep keys and workspace in the demo's folder, and only the thread count from outside."""
    environment = {"TUNEWRIGHT_CONFIG": str(folder / "keys")}
    threads = os.environ.get("TUNEWRIGHT_THREADS")
    if threads:
        environment["TUNEWRIGHT_THREADS"] = threads
    return load_settings(environment, workspace=folder / "workspace", data=folder / "data")


def _round(app: App, recipe: str, phases: Phases) -> Outcome:
    name = recipe.removesuffix(".yaml").replace("-", "_")
    with _timed(phases, name), _recipe(recipe) as path:
        outcome, _ = app.run(path)
    return outcome


@contextmanager
def _recipe(name: str) -> Generator[Path]:
    with as_file(files("tunewright.demo") / "recipes" / name) as path:
        yield path


@contextmanager
def _timed(phases: Phases, name: str) -> Generator[None]:
    started_s = time.monotonic()
    yield
    phases[name] = time.monotonic() - started_s


def _read_summary(path: Path) -> Mapping[str, Json] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
