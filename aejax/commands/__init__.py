"""What each command takes and does. Heavy modules load when a command runs, not before."""

from __future__ import annotations

from aejax.commands.experiments import Recipes, Run
from aejax.commands.saved import Encode, Explain, Export, Report, States
from aejax.commands.scoring import Evaluate, Inspect, Score
from aejax.commands.training import Calibrate, Training
from aejax.commands.tuning import Tune

__all__ = ["COMMANDS", "Training"]

COMMANDS: dict[str, type] = {
    "recipes": Recipes,
    "run": Run,
    "train": Training,
    "tune": Tune,
    "calibrate": Calibrate,
    "score": Score,
    "encode": Encode,
    "states": States,
    "explain": Explain,
    "evaluate": Evaluate,
    "report": Report,
    "inspect": Inspect,
    "export": Export,
}
