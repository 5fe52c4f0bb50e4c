"""Install `ml_repo`. Everything it says comes from settings.ini."""
import re
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

STATUS = {"1": "Planning", "2": "Pre-Alpha", "3": "Alpha", "4": "Beta", "5": "Production/Stable"}
PYTHONS = [f"3.{minor}" for minor in range(*(int(settings[key].partition(".")[2]) for key in ("min_python", "below_python")))]
LINKS = {name: settings[key] for name, key in {"Source": "git_url", "Documentation": "doc_host"}.items() if settings[key]}


def describe() -> str:
    """README.md as PyPI shows it: its links to files of the repository lead there, if settings.ini says where that is."""
    text = (here / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(?<=\]\()(?!\w+:|#)", f"{settings['git_url']}/raw/{settings['branch']}/", text) if settings["git_url"] else text


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=describe(),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"] or None,
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=settings["keywords"].split(),
    classifiers=[
        f"Development Status :: {settings['status']} - {STATUS[settings['status']]}",
        "Framework :: Jupyter",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: {version}" for version in ("3", *PYTHONS)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    project_urls=LINKS,
    packages=find_packages(include=[settings["lib_path"], f"{settings['lib_path']}.*"]),
    package_data={settings["lib_path"]: ["icons/*.svg", "pages/*", "page_files/**/*", "project_files/**/*", "labextension/**/*"]},
    data_files=[(f"share/jupyter/labextensions/ml-repo/{folder}".rstrip("/"), [str(path.relative_to(here)) for path in sorted((here / "ml_repo/labextension" / folder).glob("*.j*"))])
                for folder in ("", "static")],
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
