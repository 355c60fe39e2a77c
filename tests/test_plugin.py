"""The entry point in fresh interpreters: what it brings, in which order of imports, and what it does not import."""

import subprocess
import sys
from pathlib import Path

import pytest

from dualfocus_eval.common.resources import resource_folder

OURS = sorted(path.stem for path in resource_folder("tasks").rglob("*.yaml"))


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_listing_models_stays_light(tmp_path: Path) -> None:
    output = run(
        "import sys, lmms_eval.models as m; assert 'dualfocus' in m.list_available_models();"
        "print([name for name in ('torch', 'transformers', 'datasets', 'lmms_eval.tasks') if name in sys.modules])",
        tmp_path,
    )
    assert output.strip() == "[]"


@pytest.mark.parametrize(
    "imports",
    [
        "import lmms_eval.models; from lmms_eval.tasks import TaskManager",
        "from lmms_eval.tasks import TaskManager; import lmms_eval.models",
    ],
    ids=["models first", "tasks first"],
)
def test_the_task_manager_knows_our_tasks_once(tmp_path: Path, imports: str) -> None:
    output = run(
        f"{imports}\n"
        "from dualfocus_eval.plugin import manifests\n"
        "from lmms_eval import tasks\n"
        "before = TaskManager.initialize_tasks\n"
        "manifests(); manifests()\n"
        "assert TaskManager.initialize_tasks is before\n"
        "seen = []\n"
        "tasks.TaskManager._get_task_and_group = lambda self, folder: seen.append(folder) or {}\n"
        f"TaskManager(); TaskManager(include_path={str(resource_folder('tasks'))!r}); TaskManager(include_path='x')\n"
        "TaskManager(include_defaults=False)\n"
        "print(*[folder for folder in seen if 'site-packages' not in folder], sep='\\n')",
        tmp_path,
    )
    ours = str(resource_folder("tasks"))
    assert output.split() == [ours, ours, "x", ours]


def test_our_tasks_are_found_and_the_users_win(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: df_scenes_mini\ndataset_path: mine\n")
    output = run(
        "import lmms_eval.models\n"
        "from lmms_eval.tasks import TaskManager\n"
        "import lmms_eval.tasks, os\n"
        "lmms_eval.tasks.__file__ = os.path.join(os.getcwd(), 'none', '__init__.py')\n"  # skips thousands of YAMLs
        "print(*TaskManager().all_tasks)\n"
        "print(TaskManager(include_path=os.getcwd()).task_index['df_scenes_mini']['yaml_path'])",
        tmp_path,
    )
    names, winner = output.splitlines()
    assert names.split() == OURS
    assert {"df_paper", "df_mini", "df_pope", "df_scenes_mini"} <= set(OURS)
    assert winner == str(tmp_path / "mine.yaml")
