"""What judges finished runs reads them: the libraries that run networks take seconds to import."""

import subprocess
import sys

CODE = """
import sys
from importlib import import_module
from quantbench.tasks.registry import TASKS
for place in TASKS.values():
    import_module(place.partition(":")[0])
import quantbench.evidence.judge, quantbench.report.page.build, quantbench.report.write
print(*sorted({"torch", "scipy.stats", "mlflow", "ray"} & set(sys.modules)))
"""


def test_to_name_tasks_and_to_judge_runs_imports_nothing_heavy():
    ran = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == []
