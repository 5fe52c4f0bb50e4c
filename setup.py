"""Install `ml_repo`. Everything it says comes from settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
settings = ConfigParser(delimiters=["="])
settings.read(here / "settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]


def packages(key: str) -> list[str]:
    """The requirements that settings.ini lists under `key`."""
    return settings[key].split()


EXTRAS = [key.removesuffix("_requirements") for key in settings if key.endswith("_requirements") and key != "project_requirements"]


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    license="Apache-2.0",
    url=settings["git_url"],
    packages=find_packages(include=[settings["lib_path"], f"{settings['lib_path']}.*"]),
    package_data={settings["lib_path"]: ["icons/*.svg", "pages/*"]},
    python_requires=f">={settings['min_python']},<{settings['below_python']}",
    install_requires=packages("requirements"),
    extras_require={name: packages(f"{name}_requirements") for name in EXTRAS},
    entry_points={
        "console_scripts": ["ml-repo=ml_repo.cli.app:main"],
        "papermill.engine": ["ml_repo=ml_repo.execution.papermill_plugin:AskedEngine"],
        "jupyter_client.kernel_provisioners": ["ml_repo-warm=ml_repo.warm.provisioner:WarmProvisioner"],
        "mlflow.app": ["ml_repo=ml_repo.integrations.mlflow_app:make_app"],
        "jupyter_serverproxy_servers": [f"{name}=ml_repo.integrations.servers:{name}_tile" for name in ("mlflow", "tensorboard", "optuna", "results")],
        "nbdev": [f"{settings['lib_path']}={settings['lib_path']}._modidx:d"],
    },
)
