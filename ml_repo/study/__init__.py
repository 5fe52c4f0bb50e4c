"""The names of the module `ml_repo.study` of version 0.1 are passed on."""
from ..core.aliases import pass_on_names

__getattr__ = pass_on_names(__name__)
