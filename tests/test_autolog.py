"""Metrics are recorded without a changed line, and what a notebook computes and prints is the same with and without it."""
import json
import os
import re
from pathlib import Path

import pytest
from conftest import checked, run
from test_extras import ask_index
from test_record import git, write_notebook

SKLEARN = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import cross_val_score, train_test_split
X, y = load_iris(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = LogisticRegression(C=C).fit(X_train, y_train)
print("accuracy", accuracy_score(y_test, model.predict(X_test)), "loss", log_loss(y_test, model.predict_proba(X_test)))
print(cross_val_score(LogisticRegression(C=C), X, y, cv=3).mean())
"""
OWN = "from ml_repo import start_run\nstart_run().log(split='test', accuracy=0.5)\n" + SKLEARN
COMPLAINING = """
import traceback, warnings
from sklearn.base import BaseEstimator, _fit_context
from sklearn.linear_model import LinearRegression
class Careful(BaseEstimator):
    _parameter_constraints = {}
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        warnings.warn("few samples", stacklevel=3)
        return self
Careful().fit([[1]])
for source in ("LinearRegression().fit([[1], [2]], [0])", "LinearRegression().fit()", "import broken"):
    try:
        exec(source)
    except Exception:
        traceback.print_exc()
LinearRegression().fit([[1], [2]], ["a", "b"])
"""
FAILING = "from sklearn.linear_model import LogisticRegression\nLogisticRegression(C=C).fit([[1], [2]], [0])"


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository of somebody who knows nothing of this library."""
    for name, source in {"fit": SKLEARN, "own": OWN, "failing": FAILING, "complaining": COMPLAINING}.items():
        write_notebook(tmp_path / f"{name}.ipynb", "C = 0.1", source)
    (tmp_path / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "First")
    return tmp_path


def read_last(project: Path, name: str = "fit") -> tuple[dict, dict[str, float], str]:
    """The newest record of a notebook, its metrics by split and name, and what was printed."""
    folder = max(project.glob(f"experiments/{name}-*"), key=lambda one: one.stat().st_mtime)
    record = json.loads((folder / "record.json").read_text())
    metrics = {f"{metric['split']} {metric['name']}".strip(): metric["value"] for metric in record["metrics"]}
    log = folder / "log.txt"  # is missing where nothing was printed
    return record, metrics, log.read_text() if log.is_file() else ""


@pytest.mark.own_kernel  # its libraries set variables that a fork would report
def test_a_run_is_followed_verified_and_can_be_left_alone(project):
    checked("ml-repo", "run", "fit.ipynb", cwd=project)
    record, metrics, printed = read_last(project)
    words = printed.split()
    assert metrics["test accuracy"] == float(words[1]) and metrics["test log_loss"] == float(words[3])
    assert metrics["validation accuracy/LogisticRegression-2"] == pytest.approx(float(words[4]), rel=1e-15)
    assert record["followed"]["LogisticRegression"]["parameters"]["C"] == 0.1 and record["warnings"] == []
    assert ": identical in " in checked("ml-repo", "verify", "latest", cwd=project)
    shown = checked("ml-repo", "show", "latest", cwd=project)
    assert "test_accuracy" in shown and "scikit-learn" in shown
    checked("papermill", "fit.ipynb", "out.ipynb", cwd=project)
    assert read_last(project)[1] == metrics
    checked("ml-repo", "run", "fit.ipynb", "--no-autolog", cwd=project)
    record, metrics, alone = read_last(project)
    assert metrics == {} and "followed" not in record and alone == printed
    assert "has left no metric" in checked("ml-repo", "show", "latest", cwd=project)
    assert ": identical in " in checked("ml-repo", "verify", "latest", cwd=project)
    (project / "settings.ini").write_text("[DEFAULT]\nautolog = perhaps\n")
    done = run("ml-repo", "run", "fit.ipynb", cwd=project)
    assert done.returncode and "autolog, is 'perhaps'. It is yes or no." in done.stdout


def test_a_notebook_that_logs_itself_is_left_alone(project):
    checked("ml-repo", "run", "own.ipynb", cwd=project)
    assert read_last(project, "own")[1] == {"test accuracy": 0.5}


@pytest.mark.own_kernel  # its libraries set variables that a fork would report
def test_an_error_is_that_of_the_library(project):
    done = run("ml-repo", "run", "failing.ipynb", cwd=project)
    assert done.returncode == 1 and "ValueError: Found input variables with inconsistent numbers of samples: [2, 1]" in done.stdout
    assert read_last(project, "failing")[0]["warnings"] == []


def test_errors_and_warnings_are_told_as_if_nobody_followed(project):
    """With the same lines of the same files: no frame of the follower stands in a traceback, and a warning names the user's line."""
    outputs = []
    (project / "broken.py").write_text("import lightgbm.engine\n")
    (project / "lightgbm").mkdir()
    (project / "lightgbm/engine.py").write_text("1 / 0\n")
    for option in ("--autolog", "--no-autolog"):
        assert run("ml-repo", "run", "complaining.ipynb", option, cwd=project).returncode == 1
        folder = max(project.glob("experiments/complaining-*"), key=lambda one: one.stat().st_mtime)
        cell = json.loads((folder / "complaining.ipynb").read_text())["cells"][-1]
        text = json.dumps(cell["outputs"])
        outputs.append(re.sub(r"ipykernel_\d+/\d+\.py", "cell", text))
    assert outputs[0] == outputs[1] and "ml_repo" not in outputs[0].replace("ml_repo/.venv", "") and "few samples" in outputs[0]
    assert outputs[0].count("Traceback") >= 4 and "ZeroDivisionError" in outputs[0]


HEAVY = {
    "xgboost": ("xgboost scikit-learn", """
import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(X_train, y_train, eval_set=[(X_train, y_train), (X_test, y_test)], verbose=True)
weights, told = bytes(model.get_booster().save_raw()), {"test logloss": model.evals_result()["validation_1"]["logloss"][-1],
                                                        "train logloss": model.evals_result()["validation_0"]["logloss"][-1]}
"""),
    "lightgbm": ("lightgbm scikit-learn", """
import lightgbm
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1, deterministic=True).fit(X_train, y_train, eval_set=[(X_test, y_test)])
weights, told = model.booster_.model_to_string().encode(), {"test binary_logloss": model.evals_result_["valid_0"]["binary_logloss"][-1]}
"""),
    "catboost": ("catboost scikit-learn", """
import catboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = catboost.CatBoostClassifier(iterations=5, thread_count=1, verbose=False, allow_writing_files=False)
model.fit(X_train, y_train, eval_set=(X_test, y_test))
score = model.score(X_test, y_test)
weights, told = model.predict_proba(X_test).tobytes(), {"test Logloss": model.get_evals_result()["validation"]["Logloss"][-1], "test accuracy": score}
"""),
    "keras": ("keras tensorflow-cpu", """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
keras.utils.set_random_seed(0)
x_train = np.random.default_rng(0).normal(size=(128, 4)).astype("float32")
y_train, x_test, y_test = (x_train[:, :1] > 0).astype("float32"), x_train[:32], (x_train[:32, :1] > 0).astype("float32")
model = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1, activation="sigmoid")])
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
history = model.fit(x_train, y_train, epochs=3, validation_split=0.25, verbose=2).history
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
weights = b"".join(array.tobytes() for array in model.get_weights())
told = {"train loss": history["loss"][-1], "validation accuracy": history["val_accuracy"][-1], "test loss": loss, "test accuracy": accuracy}
"""),
    "optuna": ("optuna", """
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=3)
weights, told = repr(study.best_params).encode(), {"best_objective": study.best_value}
"""),
    "tensorboardX": ("tensorboardX", """
from tensorboardX import SummaryWriter
writer = SummaryWriter("logs")
for step in range(3):
    writer.add_scalar("Loss/train", 1 / (step + 1), step)
writer.close()
weights, told = b"", {"train Loss": 1 / 3}
"""),
    "mlflow": ("mlflow", """
import logging, os
if os.path.exists("mlflow.db"):
    os.remove("mlflow.db")
import mlflow
logging.disable()
mlflow.set_tracking_uri("sqlite:///mlflow.db")
with mlflow.start_run():
    mlflow.log_metric("val_loss", 0.25, step=1)
    mlflow.log_metrics({"test_accuracy": 0.75}, step=2)
weights, told = b"", {"validation loss": 0.25, "test accuracy": 0.75}
"""),
    "wandb": ("wandb", """
import os
os.environ["WANDB_MODE"], os.environ["WANDB_SILENT"] = "offline", "true"
import wandb
run = wandb.init(project="birds")
for step in range(3):
    wandb.log({"train/loss": 1 / (step + 1), "note": "a text"})
run.finish()
weights, told = b"", {"train loss": 1 / 3}
"""),
    "trackio": ("trackio", """
import os
os.environ["TRACKIO_DIR"] = os.path.abspath("trackio")
import trackio
trackio.init(project="birds", name="finch", embed=False)
trackio.log({"train_loss": 0.5})
trackio.finish()
weights, told = b"", {"train loss": 0.5}
"""),
    "dvclive": ("dvclive", """
import shutil
shutil.rmtree(".dvc", ignore_errors=True)
from dvclive import Live
with Live(save_dvc_exp=False, report=None) as live:
    for step in range(3):
        live.log_metric("train/loss", 1 / (step + 1))
        live.next_step()
weights, told = b"", {"train loss": 1 / 3}
"""),
    "aim": ("aim", """
import shutil
shutil.rmtree(".aim", ignore_errors=True)
import aim
run = aim.Run(experiment="birds", system_tracking_interval=None, capture_terminal_logs=False)
for step in range(3):
    run.track(1 / (step + 1), name="loss", step=step, context={"subset": "train"})
    run.track({"accuracy": step / 4, "f1": 0.5}, step=step, context={"subset": "val"})
run.close()
weights, told = b"", {"train loss": 1 / 3, "validation accuracy": 0.5, "validation f1": 0.5}
"""),
    "comet": ("comet_ml", """
import logging
logging.disable()
import comet_ml
experiment = comet_ml.OfflineExperiment(project_name="birds", offline_directory="comet", log_code=False, log_env_details=False, auto_output_logging=None)
for step in range(3):
    experiment.log_metric("train_loss", 1 / (step + 1), step=step)
    experiment.log_metrics({"accuracy": step / 4}, prefix="val", step=step)
experiment.end()
weights, told = b"", {"train loss": 1 / 3, "validation accuracy": 0.5}
"""),
    "clearml": ("clearml", """
import logging, warnings
logging.disable()
from clearml import Task
Task.set_offline(True)
task = Task.init("birds", "finch", auto_connect_streams=False, auto_resource_monitoring=False, auto_connect_frameworks=False)
for step in range(3):
    task.get_logger().report_scalar("loss", "train", 1 / (step + 1), iteration=step)
task.get_logger().report_single_value("test_accuracy", 0.75)
task.close()
weights, told = b"", {"train loss": 1 / 3, "test accuracy": 0.75}
"""),
    "swanlab": ("swanlab", """
import swanlab
run = swanlab.init(project="birds", mode="disabled")
for step in range(3):
    swanlab.log({"train": {"loss": 1 / (step + 1)}}, step=step)
swanlab.finish()
weights, told = b"", {"train loss": 1 / 3}
"""),
    "neptune": ("neptune", """
import logging
logging.disable()
import neptune
run = neptune.init_run(mode="debug", capture_stdout=False, capture_stderr=False, capture_hardware_metrics=False, capture_traceback=False, git_ref=False, source_files=[])
for step in range(3):
    run["train/loss"].append(1 / (step + 1), step=step)
run.stop()
weights, told = b"", {"train loss": 1 / 3}
"""),
    "scrapbook": ("scrapbook six", """
import scrapbook
scrapbook.glue("test_accuracy", 0.75)
scrapbook.glue("names", ["finch", "wren"])
weights, told = b"", {"test accuracy": 0.75}
"""),
    "lightning": ("torch lightning", """
import logging, warnings
warnings.simplefilter("ignore")
import lightning, torch
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
lightning.seed_everything(0)
x = torch.randn(64, 4)
y = (x[:, :1] > 0).float()
class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self.layer(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss
    def validation_step(self, batch):
        self.log("val_loss", torch.nn.functional.binary_cross_entropy_with_logits(self.layer(batch[0]), batch[1]))
    def test_step(self, batch):
        self.log("test_loss", torch.nn.functional.binary_cross_entropy_with_logits(self.layer(batch[0]), batch[1]))
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.1)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)
model = Net()
trainer = lightning.Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
trainer.fit(model, loader, loader)
told = {("validation loss" if name == "val_loss" else "train loss"): float(value) for name, value in trainer.callback_metrics.items()}
told |= {"test loss": trainer.test(model, loader, verbose=False)[0]["test_loss"]}
weights = model.layer.weight.detach().numpy().tobytes()
"""),
    "transformers": ("torch transformers accelerate", """
import os, warnings
warnings.simplefilter("ignore")
os.environ["DISABLE_MLFLOW_INTEGRATION"] = "true"
import torch, transformers
transformers.set_seed(0)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def forward(self, x=None, labels=None):
        logits = self.layer(x)
        return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(logits, labels), "logits": logits}
x = torch.randn(64, 4)
data = [{"x": row, "labels": (row[:1] > 0).float()} for row in x]
options = transformers.TrainingArguments("out", num_train_epochs=3, logging_steps=4, eval_strategy="epoch", save_strategy="no", report_to=[],
                                         use_cpu=True, disable_tqdm=True, learning_rate=0.1, seed=0, log_level="error")
model = Net()
trainer = transformers.Trainer(model, options, train_dataset=data, eval_dataset=data)
trainer.remove_callback(transformers.PrinterCallback)
done = trainer.train()
history = [line for line in trainer.state.log_history if "loss" in line]
told = {"train mean_loss": done.training_loss, "train loss": history[-1]["loss"], "validation loss": trainer.evaluate()["eval_loss"]}
weights = model.layer.weight.detach().numpy().tobytes()
"""),
    "fastai": ("torch fastai", """
import warnings
warnings.simplefilter("ignore")
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import set_seed
set_seed(0, reproducible=True)
x = torch.randn(64, 4)
data = torch.utils.data.TensorDataset(x, (x[:, :1] > 0).float())
from fastai.data.load import DataLoader
import fastai.callback.progress
loaders = DataLoaders(DataLoader(data, bs=16), DataLoader(data, bs=16))
learner = Learner(loaders, torch.nn.Linear(4, 1), loss_func=torch.nn.functional.binary_cross_entropy_with_logits)
with learner.no_bar(), learner.no_logging():
    learner.fit(3, 0.1)
learner.save("learner")
told = {"train loss": learner.recorder.values[-1][0], "validation loss": learner.recorder.values[-1][1]}
weights = learner.model.weight.detach().numpy().tobytes()
"""),
}
KEEP = """
import hashlib, json
json.dump({"told": told, "weights": hashlib.sha256(weights).hexdigest()}, open("told.json", "w"))
"""


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    """Makes an environment with the packages of a framework and a kernel, once each."""
    made = {}

    def make(packages: str) -> Path:
        if packages not in made:
            folder = tmp_path_factory.mktemp("environment") / "venv"
            checked("uv", "venv", "--quiet", folder)
            small = ["--torch-backend", "cpu"] if "torch" in packages and "UV_FIND_LINKS" not in os.environ else []
            ask_index("uv", "pip", "install", "--quiet", *small, "--python", folder / "bin" / "python", "ipykernel", *packages.split())
            made[packages] = folder
        return made[packages]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("framework", HEAVY)
def test_a_framework_tells_its_metrics(framework, environments, tmp_path):
    """Equal to what the framework itself reports; weights and printed text with and without are the same."""
    packages, source = HEAVY[framework]
    kernels = tmp_path / "kernels" / "share" / "jupyter"
    checked(environments(packages) / "bin" / "python", "-m", "ipykernel", "install", "--prefix", kernels.parent.parent, "--name", "other")
    project = tmp_path / "project"
    project.mkdir()
    write_notebook(project / "fit.ipynb", "C = 0.1", source + KEEP)
    (project / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "First")
    seen = []
    for option in ("--autolog", "--no-autolog"):
        checked("ml-repo", "run", "fit.ipynb", "--kernel", "other", option, cwd=project, JUPYTER_PATH=str(kernels))
        record, metrics, printed = read_last(project)
        kept = json.loads((project / "told.json").read_text())
        seen.append((kept["weights"], [re.sub(r"offline-\w+", "offline", line) for line in printed.splitlines() if "s/step" not in line]))
        if option == "--autolog":
            assert {name: metrics.get(name) for name in kept["told"]} == pytest.approx(kept["told"], rel=1e-12), metrics
            assert not [warning for warning in record["warnings"] if "followed" in warning], record["warnings"]
    assert seen[0] == seen[1]
