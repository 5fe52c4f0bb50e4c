"""What a kernel's libraries have decided, as JSON: the program of a cell, and what may differ between two processes."""
import json
import re
from pathlib import Path

# The cell keeps its names to itself, since it looks at all modules, and the notebook's own is one of them.
CELL = '''
def _tell():
    import builtins, gc, json, locale, logging, multiprocessing, os, resource, signal, sys, threading, warnings

    def is_simple(value, depth=0):
        if value is None or isinstance(value, (bool, int, float, str)):
            return True
        if depth < 3 and isinstance(value, (list, tuple, set, frozenset)):
            return len(value) < 200 and all(is_simple(item, depth + 1) for item in value)
        if depth < 3 and isinstance(value, dict):
            return len(value) < 500 and all(is_simple(item, depth + 1) for item in (*value, *value.values()))
        return False

    def name_stream(handler):
        stream = getattr(handler, "stream", None)
        return "stdout" if stream is sys.stdout else "stderr" if stream is sys.stderr else type(stream).__name__

    def name_function(function):
        return str(function).split(" at ")[0]

    modules = {}
    for name, module in sorted(sys.modules.items()):
        for key, value in list(vars(module).items()):
            if isinstance(key, str) and not key.startswith("__") and is_simple(value):
                modules[name + "." + key] = repr(sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)[:300]
    loggers = {name: [logger.level, logger.propagate, [[type(one).__name__, one.level, name_stream(one)] for one in logger.handlers]]
               for name, logger in [("root", logging.root), *logging.root.manager.loggerDict.items()] if isinstance(logger, logging.Logger)}
    formatters = get_ipython().display_formatter.formatters
    states = {
        "modules": modules, "loggers": loggers,
        "warnings": [[entry[0], str(getattr(entry[1], "pattern", entry[1])), entry[2].__name__, str(getattr(entry[3], "pattern", entry[3])), entry[4]] for entry in warnings.filters],
        "signals": {one.name: name_function(signal.getsignal(one)) for one in signal.valid_signals() if isinstance(one, signal.Signals)},
        "mask": sorted(map(str, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False), sys.getfilesystemencoding()],
        "processes": [multiprocessing.get_start_method(), multiprocessing.current_process().name, multiprocessing.parent_process() is None,
                      sys.modules.get("__mp_main__") in (None, sys.modules["__main__"])],
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")},
        "environment": {name: value for name, value in os.environ.items() if name not in ("JPY_PARENT_PID", "ML_REPO_RUN")},
        "path": sys.path, "argv": [len(sys.argv), os.path.basename(sys.argv[0])], "folder": os.getcwd(), "umask": os.umask(os.umask(0o22)),
        "streams": [[type(one).__name__, one.encoding, one.errors, one.isatty()] for one in (sys.stdout, sys.stderr)],
        "flags": [list(sys.flags), sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode, sys.warnoptions],
        "processors": sorted(os.sched_getaffinity(0)), "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "events": {event: len(known) for event, known in get_ipython().events.callbacks.items()}, "prompts": [sys.ps1, sys.ps2],
        "builtins": dir(builtins), "hooks": [name_function(one) for one in (sys.displayhook, sys.excepthook, threading.excepthook, builtins.__import__)],
        "formatters": {kind: sorted(map(str, (*one.type_printers, *one.deferred_printers))) for kind, one in formatters.items()},
        "gc": [gc.isenabled(), gc.get_threshold()],
    }
    with open("states.json", "w") as file:
        json.dump(states, file, default=str)
_tell()
'''

OWN = re.compile("|".join((
    r"__(mp_)?main__\..*", r"ml_repo\..*", r"\w*pydevd?_.*", r"debugpy\..*",  # the notebook, this library, the debugger's clocks
    r"_?ctypes\._\w+_addr", r"absl\.flags\._helpers\.disclaim_module_ids", r".*\._BUILTIN_FUNCTION_IDS", r".*tf_stack\._source_\w+",  # addresses
    r"(fastapi|opentelemetry)\..*_KEY", r"packaging\._manylinux\._LAST_GLIBC_MINOR",  # ids that are drawn at the import, an address
    r"logging\._startTime", r"numpy\.f2py\.\w+\.(generationtime|\w+_rules)", r"psutil\._last_\w+", r"time\..*",  # clocks
    r"joblib\._multiprocessing_helpers\.name", r"random\._.*", r"tempfile\..*", r"multiprocessing\.\w+\._(pid|pool)\w*",  # numbers of the process
    r"sys\.(argv|orig_argv|_ml_repo_\w+|last_\w+)", r"threading\._\w+", r"runpy\..*", r"os\.environ\w*", r"posix\.environ",
    r"(PIL\.features|matplotlib\.backends\.(_backend_agg|backend_agg))\..*")))  # a figure would import them


def find_differences(cold: Path, warm: Path) -> list[str]:
    """Compare two files of states, without what every process has its own of."""
    first, second = (json.loads(file.read_text()) for file in (cold, warm))
    found = []
    for kind in first:
        one, other = (states[kind] if isinstance(states[kind], dict) else {"": states[kind]} for states in (first, second))
        names = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
        found += [f"{kind} {name}: cold {str(one.get(name))[:300]}, warm {str(other.get(name))[:300]}"
                  for name in sorted(names) if not (OWN.fullmatch(name) if kind == "modules" else name == "_MLFLOW_TELEMETRY_SESSION_ID")]
    return found
