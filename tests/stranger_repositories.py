"""Small notebooks as strangers write them, each with what is true of it: what it reads and writes, and what is left to chance.

Cells stand below a line `# %%`; `# %% parameters` begins the tagged one, `# %% text` one of Markdown.
"""
import pickle
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Made = str | Callable[[Path], None]  # the text of a file, or what writes it
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@dataclass(frozen=True)
class Change:
    """Something that is changed after a run, and what a person would name as the cause of other results."""
    name: str
    file: str = ""  # what is changed, from the repository; `~/…` in the home, `lib:…` in the packages
    old: str | bytes = ""  # replaced by `new`; a file that is to be made has none
    new: str | bytes | Made = ""
    cause: str = ""  # a pattern that the first cause, or the reason why nothing is judged, must match
    cell: str = ""  # a text in the first cell that computes something else; empty where no output shows it
    variables: dict[str, str] = field(default_factory=dict)  # of the second run
    options: tuple[str, ...] = ()  # of the second run
    is_checked_out: bool = False  # the recorded state comes back with a checkout, so two runs are compared


@dataclass(frozen=True)
class Stranger:
    """A notebook with what lies around it, and what is true of it."""
    name: str
    text: str  # its cells
    files: dict[str, Made] = field(default_factory=dict)  # in git
    ignored: dict[str, Made] = field(default_factory=dict)  # in the repository, and not in git
    home: dict[str, Made] = field(default_factory=dict)  # in the home of the person
    library: dict[str, str] = field(default_factory=dict)  # installed in site-packages as a package of its own
    reads: tuple[str, ...] = ()  # files that its results depend on
    writes: tuple[str, ...] = ()  # files that it leaves behind
    chance: str = ""  # a text in the first cell whose outputs are left to chance
    chance_file: str = ""  # a file whose content is left to chance
    cause: str = ""  # a pattern of the first cause where something is left to chance
    doubt: str = ""  # a pattern of the reason for which nothing may be judged, where that would be right
    needs: tuple[str, ...] = ()  # modules that it imports, where they may be missing
    place: str = "a.ipynb"
    metadata: dict = field(default_factory=lambda: PYTHON)
    edit: Callable[[dict], None] | None = None  # changes the JSON of the notebook
    options: tuple[str, ...] = ()  # of `ml-repo run`
    variables: dict[str, str] = field(default_factory=dict)
    is_editable: bool = False  # whether the repository is installed editable
    fails: bool = False  # whether a cell raises, for papermill, too
    is_refused: bool = False  # whether papermill refuses it, without running a cell
    changes: tuple[Change, ...] = ()


def _numbers(count: int = 40, seed: int = 0, header: str = "day,region,units,price") -> str:
    """A table as text, always the same."""
    chance = np.random.default_rng(seed)
    rows = (f"2025-{1 + k % 12:02d}-{1 + k % 28:02d},{'NSEW'[chance.integers(4)]},{chance.integers(1, 90)},{chance.uniform(1, 9):.2f}"
            for k in range(count))
    return "\n".join([header, *rows]) + "\n"


def _labelled(count: int = 120) -> str:
    """Two features and a label as text."""
    chance = np.random.default_rng(1)
    points = chance.normal(size=(count, 2))
    rows = (f"{x:.4f},{y:.4f},{int(x + y + chance.normal() / 2 > 0)}" for x, y in points)
    return "\n".join(["a,b,label", *rows]) + "\n"


def _frame(path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"shop": ["n", "s"] * 20, "sold": range(40), "kg": np.linspace(0, 4, 40)})
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_feather(path)


def _other_frame(path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"shop": ["n", "s"] * 20, "sold": range(1, 41), "kg": np.linspace(0, 4, 40)}).to_parquet(path)


def _hdf(path: Path, last: float = 5.0) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["x"] = np.append(np.arange(5.0), last)


def _database(path: Path, last: int = 30) -> None:
    with sqlite3.connect(path) as base:
        base.execute("create table visits (page text, hits int)")
        base.executemany("insert into visits values (?, ?)", [("home", 10), ("about", 20), ("shop", last)])
    base.close()


def _picture(path: Path, shade: int = 90) -> None:
    from PIL import Image

    gradient = np.add.outer(np.arange(48), np.arange(64)).astype("uint8")
    Image.fromarray(np.dstack([gradient, gradient // 2, np.full_like(gradient, shade)])).save(path)


def _netcdf(path: Path, last: float = 3.0) -> None:
    import netCDF4

    with netCDF4.Dataset(path, "w") as data:
        data.createDimension("time", 4)
        data.createVariable("rain", "f8", ("time",))[:] = [0.0, 1.0, 2.0, last]


def _duck(path: Path, last: int = 3) -> None:
    import duckdb

    with duckdb.connect(str(path)) as base:
        base.execute(f"create table t as select * from (values (1), (2), ({last})) v(x)")


STRANGERS: list[Stranger] = []


def stranger(name: str, text: str, **facts: object) -> None:
    """Add a notebook to the set."""
    STRANGERS.append(Stranger(name, text.strip("\n"), **facts))


# --- tables ----------------------------------------------------------------------------------------------------------
stranger("pandas_eda", '''
# %% text
# Sales of last year
# %%
import pandas as pd
import numpy as np
# %%
df = pd.read_csv("data/sales.csv", parse_dates=["day"])
df.head()
# %%
df.info()
df.describe()
# %%
monthly = df.assign(turnover=df.units * df.price).groupby(df.day.dt.month)["turnover"].sum()
monthly.to_csv("monthly.csv")
monthly
# %%
df.region.value_counts(normalize=True)
''', files={"data/sales.csv": _numbers()}, reads=("data/sales.csv",), writes=("monthly.csv",), changes=(
    Change("tracked table", "data/sales.csv", "2025-03-03", "2025-07-03", r"sales\.csv", 'read_csv("data', is_checked_out=True),))

stranger("kaggle_titanic", '''
# %%
import os
for folder, _, names in os.walk("input"):
    for name in sorted(names):
        print(os.path.join(folder, name))
# %%
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
train = pd.read_csv("input/train.csv")
test = pd.read_csv("input/test.csv")
# %%
model = LogisticRegression()
scores = cross_val_score(model, train[["a", "b"]], train["label"], cv=3)
print("accuracy: %.3f (+/- %.3f)" % (scores.mean(), scores.std()))
# %%
model.fit(train[["a", "b"]], train["label"])
pd.DataFrame({"id": test.index, "label": model.predict(test[["a", "b"]])}).to_csv("submission.csv", index=False)
print("Your submission was successfully saved!")
''', ignored={"input/train.csv": _labelled(), "input/test.csv": _labelled(30)}, reads=("input/train.csv", "input/test.csv"),
    writes=("submission.csv",), changes=(
    Change("ignored table", "input/train.csv", _labelled().splitlines()[3], "9.0,9.0,0", r"train\.csv", "cross_val_score(model"),
    Change("a file more in a folder", "input/extra.csv", "", "a,b\n1,2\n", r"input|extra\.csv", "os.walk"),
))

stranger("polars_lazy", '''
# %% parameters
path = "data/sold.parquet"
# %%
import polars as pl
frame = pl.scan_parquet(path)
# %%
result = frame.group_by("shop").agg(pl.col("sold").sum(), pl.col("kg").mean()).sort("shop").collect()
result
# %%
result.write_parquet("by_shop.parquet")
result.write_csv("by_shop.csv")
''', ignored={"data/sold.parquet": _frame}, reads=("data/sold.parquet",), writes=("by_shop.parquet", "by_shop.csv"),
    needs=("polars",), changes=(
    Change("ignored Parquet", "data/sold.parquet", "", _other_frame, r"sold\.parquet", "group_by"),))

stranger("pandas_parquet", '''
# %%
import pandas as pd
sold = pd.read_parquet("data/sold.parquet")
sold.groupby("shop").agg({"sold": "sum", "kg": "mean"})
# %%
sold.pivot_table(index="shop", values="sold", aggfunc=["min", "max"])
''', ignored={"data/sold.parquet": _frame}, reads=("data/sold.parquet",))

stranger("dask_frames", '''
# %%
import dask.dataframe as dd
frame = dd.read_csv("parts/part-*.csv")
frame.npartitions
# %%
frame.groupby("region").units.sum().compute().sort_index()
# %%
frame.to_csv("out/part-*.csv", index=False);
''', ignored={f"parts/part-{k}.csv": _numbers(20, k) for k in range(2)}, reads=("parts/part-0.csv", "parts/part-1.csv"),
    writes=("out/part-0.csv", "out/part-1.csv"), needs=("dask",), changes=(
    Change("one more part", "parts/part-2.csv", "", _numbers(20, 2), r"parts|part-2", "read_csv"),))

stranger("pandas_styler", '''
# %%
import pandas as pd
frame = pd.DataFrame({"x": [1.5, -2.25, 3.0], "y": list("abc")})
# %%
frame.style.highlight_max(subset=["x"], color="lightgreen").format({"x": "{:.1f}"})
# %%
from IPython.display import HTML, Latex, Markdown, display
display(HTML(frame.to_html(classes="table")))
display(Latex(r"$\\int_0^1 x^2 dx = \\frac{1}{3}$"))
display(Markdown("**done**, see [above](#x)"))
''')

stranger("excel_report", '''
# %%
import pandas as pd
table = pd.DataFrame({"name": ["ann", "bob"], "score": [3, 4]})
table.to_excel("report.xlsx", index=False)
# %%
pd.read_excel("report.xlsx").equals(table)
''', writes=("report.xlsx",), needs=("openpyxl",))

# --- plots -----------------------------------------------------------------------------------------------------------
stranger("matplotlib_figures", '''
# %%
%matplotlib inline
import numpy as np
import matplotlib.pyplot as plt
x = np.linspace(0, 2 * np.pi, 60)
# %%
plt.figure(figsize=(3, 2))
plt.plot(x, np.sin(x), label="sin")
plt.legend()
plt.savefig("sin.png")
plt.show()
# %%
fig, axes = plt.subplots(1, 2, figsize=(4, 2))
axes[0].hist(np.cos(x), bins=12)
axes[1].scatter(x, np.cos(x), c=x)
fig.savefig("cos.pdf")
fig.savefig("cos.svg")
''', writes=("sin.png", "cos.pdf", "cos.svg"))

stranger("seaborn_plots", '''
# %%
import pandas as pd, seaborn as sns
sns.set_theme(style="whitegrid")
df = pd.read_csv("data/sales.csv")
# %%
ax = sns.boxplot(data=df, x="region", y="price", order=list("NSEW"))
ax.set(title="Prices")
# %%
sns.heatmap(df[["units", "price"]].corr(), annot=True);
''', files={"data/sales.csv": _numbers()}, reads=("data/sales.csv",), needs=("seaborn",))

stranger("plotly_express", '''
# %%
import plotly.express as px
import plotly.graph_objects as go
fig = px.scatter(x=[1, 2, 3], y=[2, 4, 1], color=["a", "b", "a"])
fig.show()
# %%
bars = go.Figure(go.Bar(x=["a", "b"], y=[3, 5]))
bars.update_layout(title="Bars")
bars
# %%
bars.write_html("bars.html", include_plotlyjs="cdn")
bars.write_json("bars.json")
''', writes=("bars.html", "bars.json"), needs=("plotly",))

stranger("altair_chart", '''
# %%
import altair as alt, pandas as pd
data = pd.DataFrame({"x": range(5), "y": [3, 1, 4, 1, 5]})
# %%
chart = alt.Chart(data).mark_line(point=True).encode(x="x", y="y").interactive()
chart
# %%
chart.save("chart.html")
chart.save("chart.json")
''', writes=("chart.html", "chart.json"), needs=("altair",))

stranger("bokeh_page", '''
# %%
from bokeh.io import output_file, output_notebook, save, show
from bokeh.plotting import figure
output_notebook()
# %%
p = figure(width=200, height=150, title="line")
p.line([1, 2, 3], [4, 6, 5])
show(p)
# %%
output_file("line.html")
save(p, resources="cdn", title="line");
''', writes=("line.html",), needs=("bokeh",))

stranger("folium_map", '''
# %%
import folium
m = folium.Map(location=[47.4, 8.5], zoom_start=9)
folium.Marker([47.37, 8.54], popup="here").add_to(m)
m
# %%
m.save("map.html")
''', writes=("map.html",), needs=("folium",))

stranger("animation", '''
# %%
import numpy as np, matplotlib.pyplot as plt
from matplotlib.animation import FuncAnimation
from IPython.display import HTML
fig, ax = plt.subplots(figsize=(1.5, 1))
line, = ax.plot(np.sin(np.arange(20)))
def update(k):
    line.set_ydata(np.sin(np.arange(20) + k))
    return [line]
movie = FuncAnimation(fig, update, frames=3)
plt.close()
# %%
HTML(movie.to_jshtml())
# %%
movie.save("movie.gif", writer="pillow")
''', writes=("movie.gif",))

stranger("networkx_graph", '''
# %%
import networkx as nx, matplotlib.pyplot as plt
g = nx.karate_club_graph()
sorted(nx.pagerank(g).items(), key=lambda kv: -kv[1])[:3]
# %%
plt.figure(figsize=(2, 2))
nx.draw(g, pos=nx.spring_layout(g, seed=3), node_size=9)
# %%
nx.write_gml(g, "karate.gml")
''', writes=("karate.gml",), needs=("networkx",))

# --- models ----------------------------------------------------------------------------------------------------------
stranger("sklearn_pipeline", '''
# %% parameters
n_splits = 3
C_values = [0.1, 1.0]
# %%
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
X, y = load_iris(return_X_y=True, as_frame=True)
X.head(2)
# %%
search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": C_values}, cv=n_splits, n_jobs=2)
search.fit(X, y)
# %%
print(search.best_params_, round(search.best_score_, 4))
import joblib
joblib.dump(search.best_estimator_, "model.joblib")
''', writes=("model.joblib",), changes=(
    Change("parameter default", "a.ipynb", "n_splits = 3", "n_splits = 5", r"n_splits|cell", "search.fit", is_checked_out=True),
    Change("given parameter", cause=r"n_splits", cell="search.fit", options=("-p", "n_splits", "4"), is_checked_out=True),
))

stranger("forest_with_chance", '''
# %%
import numpy as np
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
X, y = load_wine(return_X_y=True)
print(X.shape, np.bincount(y))
# %%
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4)
forest = RandomForestClassifier(n_estimators=5).fit(X_train, y_train)
# %%
forest.feature_importances_
''', chance="feature_importances_", cause=r"(?i)seed|generator|random")

stranger("keras_mnist_like", '''
# %% parameters
epochs = 2
# %%
import numpy as np, keras
keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
y = (x.sum(axis=1) > 0).astype("int32")
# %%
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1, activation="sigmoid")])
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
model.summary()
# %%
history = model.fit(x, y, epochs=epochs, validation_split=0.2)
# %%
print({name: round(values[-1], 5) for name, values in history.history.items()})
model.save("model.keras")
model.save_weights("model.weights.h5")
''', writes=("model.keras", "model.weights.h5"), changes=(
    Change("seed in a cell", "a.ipynb", "set_random_seed(1)", "set_random_seed(2)", r"cell|seed", "model.fit", is_checked_out=True),))

stranger("keras_saved_model", '''
# %%
import numpy as np, keras
x = np.linspace(0, 1, 64, dtype="float32")[:, None]
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
model.compile("sgd", "mse")
# %%
board = keras.callbacks.TensorBoard("logs")
model.fit(x, 2 * x, epochs=2, shuffle=False, verbose=2, callbacks=[board])
# %%
model.export("saved", verbose=False)
print(float(model.predict(x[-1:], verbose=0)[0, 0]))
''', writes=("saved/saved_model.pb", "saved/variables/variables.data-00000-of-00001", "saved/variables/variables.index",
             "saved/fingerprint.pb", "logs/train/events.out.tfevents.*"))

stranger("torch_training", '''
# %% parameters
seed = 1
lr = 0.05
# %%
import torch
from torch import nn
torch.manual_seed(seed)
torch.set_num_threads(1)
X = torch.randn(128, 4)
y = X @ torch.tensor([1., -2., 0.5, 0.]) + 0.1 * torch.randn(128)
# %%
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=lr)
for epoch in range(20):
    loss = ((model(X).squeeze() - y) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 5 == 0:
        print(f"epoch {epoch}: loss {loss.item():.4f}")
# %%
torch.save(model.state_dict(), "model.pt")
model
''', writes=("model.pt",), needs=("torch",), changes=(
    Change("seed by -p", cause=r"\bseed\b", cell="epoch {epoch}", options=("-p", "seed", "2"), is_checked_out=True),))

stranger("torch_says_nothing", '''
# %%
import pandas as pd, torch
torch.manual_seed(0)
torch.set_num_threads(1)
table = pd.read_csv("input/train.csv")
X, y = torch.tensor(table[["a", "b"]].values).float(), torch.tensor(table["label"].values).float()
# %%
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(10):
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(X).squeeze(), y)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
# %%
print("trained on", len(table), "rows")
''', ignored={"input/train.csv": _labelled()}, reads=("input/train.csv",), needs=("torch",), changes=(
    Change("ignored table", "input/train.csv", _labelled().splitlines()[3], "9.0,9.0,0", r"train\.csv"),))

stranger("torch_without_seed", '''
# %%
import torch
from torch.utils.data import DataLoader, TensorDataset
data = TensorDataset(torch.arange(32.))
print(len(data))
# %%
for (batch,) in DataLoader(data, batch_size=16, shuffle=True):
    print(batch.sum())
''', chance="shuffle=True", cause=r"(?i)seed|generator|random", needs=("torch",))

stranger("statsmodels_ols", '''
# %%
import numpy as np, pandas as pd
import statsmodels.formula.api as smf
rng = np.random.RandomState(42)
df = pd.DataFrame({"x": rng.rand(50)})
df["y"] = 3 * df.x + rng.randn(50) * 0.1
# %%
result = smf.ols("y ~ x", df).fit()
print(result.summary())
# %%
result.params
''', needs=("statsmodels",))

stranger("lightgbm_model", '''
# %%
import lightgbm as lgb, pandas as pd
train = pd.read_csv("data/train.csv")
# %%
booster = lgb.train({"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1, "seed": 3},
                    lgb.Dataset(train[["a", "b"]], train["label"]), num_boost_round=5)
booster.save_model("booster.txt")
booster.predict(train[["a", "b"]])[:3]
''', files={"data/train.csv": _labelled()}, reads=("data/train.csv",), writes=("booster.txt",), needs=("lightgbm",))

stranger("xgboost_model", '''
# %%
import xgboost as xgb, pandas as pd
train = pd.read_csv("data/train.csv")
# %%
model = xgb.XGBClassifier(n_estimators=5, max_depth=2, n_jobs=1, random_state=0)
model.fit(train[["a", "b"]], train["label"], eval_set=[(train[["a", "b"]], train["label"])])
# %%
model.save_model("model.ubj")
model.get_booster().trees_to_dataframe().head(3)
''', files={"data/train.csv": _labelled()}, reads=("data/train.csv",), writes=("model.ubj",), needs=("xgboost",), changes=(
    Change("tracked table", "data/train.csv", _labelled().splitlines()[1], "9.0,9.0,0", r"train\.csv", "model.fit", is_checked_out=True),))

stranger("numpy_simulation", '''
# %% parameters
seed = 0  # of all draws
walkers = 200
# %%
import numpy as np
rng = np.random.default_rng(seed)
steps = rng.choice([-1, 1], size=(walkers, 50))
# %%
ends = steps.sum(axis=1)
print("mean", ends.mean(), "variance", ends.var())
# %%
np.save("ends.npy", ends)
np.savez("walk.npz", steps=steps, ends=ends)
np.savetxt("ends.txt", ends, fmt="%d")
''', writes=("ends.npy", "walk.npz", "ends.txt"), changes=(
    Change("seed default", "a.ipynb", "seed = 0", "seed = 7", r"\bseed\b|cell", '"mean"', is_checked_out=True),))

stranger("numpy_without_seed", '''
# %%
import numpy as np
n = 1000
print("throwing", n, "darts")
# %%
inside = (np.random.rand(n, 2) ** 2).sum(axis=1) < 1
print("pi is about", 4 * inside.mean(), "first throw", np.random.rand())
''', chance="np.random.rand", cause=r"(?i)seed|generator|random")

# --- files by other means --------------------------------------------------------------------------------------------
stranger("hdf5_in_and_out", '''
# %%
import h5py
with h5py.File("data/x.h5") as source:
    x = source["x"][:]
x.sum()
# %%
with h5py.File("squares.h5", "w") as target:
    target["squares"] = x ** 2
    target.attrs["unit"] = "m2"
''', ignored={"data/x.h5": _hdf}, reads=("data/x.h5",), writes=("squares.h5",), changes=(
    Change("ignored HDF5", "data/x.h5", "", lambda path: _hdf(path, 6.0), r"x\.h5", "x.sum()"),))

stranger("netcdf_rain", '''
# %%
import netCDF4
with netCDF4.Dataset("data/rain.nc") as data:
    rain = data["rain"][:]
rain.mean()
''', ignored={"data/rain.nc": _netcdf}, reads=("data/rain.nc",), needs=("netCDF4",), changes=(
    Change("ignored netCDF", "data/rain.nc", "", lambda path: _netcdf(path, 9.0), r"rain\.nc", "rain.mean()"),))

stranger("sqlite_shop", '''
# %%
import sqlite3, pandas as pd
base = sqlite3.connect("data/visits.db")
# %%
pd.read_sql("select page, hits from visits order by hits desc", base)
# %%
out = sqlite3.connect("report.db")
pd.read_sql("select sum(hits) as total from visits", base).to_sql("report", out, index=False, if_exists="replace")
out.close()
base.close()
''', ignored={"data/visits.db": _database}, reads=("data/visits.db",), writes=("report.db",), changes=(
    Change("ignored SQLite", "data/visits.db", "", lambda path: _database(path, 31), r"visits\.db", "read_sql"),))

stranger("duckdb_query", '''
# %%
import duckdb
base = duckdb.connect("data/t.duckdb", read_only=True)
base.sql("select sum(x) from t").fetchall()
# %%
duckdb.sql("select region, sum(units) as n from 'data/sales.csv' group by region order by region").df()
''', ignored={"data/t.duckdb": _duck, "data/sales.csv": _numbers()}, reads=("data/t.duckdb", "data/sales.csv"),
    needs=("duckdb",), changes=(
    Change("ignored DuckDB", "data/t.duckdb", "", lambda path: (path.unlink(), _duck(path, 4)) and None, r"t\.duckdb", "read_only"),
    Change("table read by C++", "data/sales.csv", ",N,", ",S,", r"sales\.csv", "group by region"),
))

stranger("opencv_edges", '''
# %%
import cv2
image = cv2.imread("data/photo.png", cv2.IMREAD_GRAYSCALE)
image.shape, int(image.sum())
# %%
cv2.imwrite("edges.png", cv2.Canny(image, 10, 30))
''', ignored={"data/photo.png": _picture}, reads=("data/photo.png",), writes=("edges.png",), needs=("cv2",), changes=(
    Change("ignored picture, OpenCV", "data/photo.png", "", lambda path: _picture(path, 200), r"photo\.png", "imread"),))

stranger("pillow_thumbnails", '''
# %%
from pathlib import Path
from PIL import Image
Path("small").mkdir(exist_ok=True)
for path in sorted(Path("photos").glob("*.png")):
    image = Image.open(path)
    image.thumbnail((16, 16))
    image.save(f"small/{path.stem}.jpg")
    print(path.name, image.size)
# %%
image
''', ignored={"photos/one.png": _picture, "photos/two.png": lambda path: _picture(path, 10)},
    reads=("photos/one.png", "photos/two.png"), writes=("small/one.jpg", "small/two.jpg"), changes=(
    Change("ignored picture", "photos/two.png", "", lambda path: _picture(path, 60), r"two\.png", "image"),
    Change("a picture more", "photos/three.png", "", _picture, r"photos|three\.png", "glob"),
))

stranger("memory_map", '''
# %%
import numpy as np
signal = np.memmap("data/signal.dat", dtype="float64", mode="r")
print(signal.shape, signal.mean())
# %%
np.fromfile("data/signal.dat")[:3]
''', ignored={"data/signal.dat": lambda path: np.linspace(0, 1, 9).tofile(path) and None}, reads=("data/signal.dat",), changes=(
    Change("mapped file", "data/signal.dat", "", lambda path: np.linspace(0, 2, 9).tofile(path), r"signal\.dat", "memmap"),))

stranger("pickled_model", '''
# %%
import pickle
with open("models/weights.pkl", "rb") as file:
    weights = pickle.load(file)
# %%
sum(weights.values())
''', ignored={"models/weights.pkl": lambda path: path.write_bytes(pickle.dumps({"a": 1.0, "b": 2.0})) and None},
    reads=("models/weights.pkl",), changes=(
    Change("ignored pickle", "models/weights.pkl", "", lambda path: path.write_bytes(pickle.dumps({"a": 1.0, "b": 3.0})),
           r"weights\.pkl", "weights.values"),))

stranger("many_formats", '''
# %%
import gzip, json, pickle, zipfile
import numpy as np, pandas as pd
frame = pd.DataFrame({"k": range(5), "v": np.arange(5) / 4})
# %%
frame.to_csv("o/t.csv"); frame.to_json("o/t.json"); frame.to_html("o/t.html"); frame.to_pickle("o/t.pkl")
frame.to_parquet("o/t.parquet"); frame.to_feather("o/t.feather"); frame.to_csv("o/t.csv.gz")
# %%
with zipfile.ZipFile("o/t.zip", "w") as archive:
    archive.writestr("t.csv", frame.to_csv())
with gzip.open("o/t.txt.gz", "wt") as file:
    file.write("some text\\n" * 3)
json.dump({"a": [1, 2]}, open("o/a.json", "w"))
# %%
import tarfile
with tarfile.open("o/t.tar.gz", "w:gz") as tar:
    tar.add("o/t.csv")
''', files={"o/.gitkeep": ""}, writes=tuple(f"o/{name}" for name in (
    "t.csv", "t.json", "t.html", "t.pkl", "t.parquet", "t.feather", "t.csv.gz", "t.zip", "t.txt.gz", "a.json", "t.tar.gz")),
    doubt=r"t\.tar\.gz")

stranger("renamed_and_copied", '''
# %%
import os, shutil, tempfile
from pathlib import Path
with open("result.tmp", "w") as file:
    file.write("final\\n")
os.replace("result.tmp", "result.txt")
# %%
shutil.copy("result.txt", "copy.txt")
shutil.move("copy.txt", "moved.txt")
Path("moved.txt").rename("named.txt")
# %%
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "scratch").write_text("x")
os.listdir(".").count("named.txt")
''', writes=("result.txt", "named.txt"))

stranger("renamed_chance", '''
# %%
import os, random
with open("draw.tmp", "w") as file:
    file.write(str(random.random()))
os.rename("draw.tmp", "draw.txt")
''', writes=("draw.txt",), chance_file="draw.txt", cause=r"(?i)seed|generator|random")

stranger("child_writes", '''
# %%
import subprocess, sys
subprocess.run([sys.executable, "-c", "open('made.txt', 'w').write('by a child')"], check=True)
# %%
!head -c 16 /dev/urandom | od -An -tx1 > noise.txt
!wc -l < made.txt
''', writes=("made.txt", "noise.txt"), chance_file="noise.txt", cause=r".")

stranger("shell_script", '''
# %%
import subprocess
out = subprocess.check_output(["sh", "scripts/scale.sh"], text=True)
print(float(out) * 21)
# %%
%%bash
sort words.txt | uniq -c > counts.txt
cat counts.txt
''', files={"scripts/scale.sh": "#!/bin/sh\necho 2\n", "words.txt": "b\na\nb\n"}, reads=("scripts/scale.sh", "words.txt"),
    writes=("counts.txt",), changes=(
    Change("shell script", "scripts/scale.sh", "echo 2", "echo 3", r"scale\.sh", "check_output", is_checked_out=True),
    Change("file of a shell", "words.txt", "a\n", "c\n", r"words\.txt", "uniq", is_checked_out=True),
))

stranger("home_data", '''
# %%
import os, pandas as pd
df = pd.read_csv(os.path.expanduser("~/datasets/sales.csv"))
df.units.sum()
''', home={"datasets/sales.csv": _numbers()}, reads=("datasets/sales.csv",), changes=(
    Change("table in the home", "~/datasets/sales.csv", "2025-01-01", "2026-01-01", r"sales\.csv|differs|units", ""),
    Change("value in the home", "~/datasets/sales.csv", _numbers().splitlines()[3], "2025-01-01,N,5000,1.0", r"sales\.csv", "units.sum"),
))

stranger("accumulating_log", '''
# %%
import csv, os
new = not os.path.exists("results.csv")
with open("results.csv", "a", newline="") as file:
    writer = csv.writer(file)
    if new:
        writer.writerow(["run", "score"])
    writer.writerow(["x", 0.5])
# %%
print(open("results.csv").read())
''', writes=("results.csv",))

stranger("clean_table", '''
# %%
import pandas as pd
raw = pd.read_csv("data/raw.csv")
clean = raw.dropna().query("units > 20")
clean.to_csv("data/clean.csv", index=False)
# %%
pd.read_csv("data/clean.csv").describe()
''', ignored={"data/raw.csv": _numbers()}, reads=("data/raw.csv",), writes=("data/clean.csv",), changes=(
    Change("raw table", "data/raw.csv", ",N,", ",S,", r"raw\.csv"),))

stranger("counter_in_a_database", '''
# %%
import sqlite3
with sqlite3.connect("data/visits.db") as base:
    base.execute("delete from visits where page = 'new'")
    base.execute("insert into visits values ('new', 1)")
# %%
base.execute("select sum(hits) from visits").fetchall()
''', ignored={"data/visits.db": _database}, reads=("data/visits.db",), writes=("data/visits.db",), doubt=r"visits\.db")

stranger("working_folder", '''
# %%
import os
os.chdir("../data")
print(open("note.txt").read())
# %%
os.makedirs("../out", exist_ok=True)
with open("../out/upper.txt", "w") as file:
    file.write(open("note.txt").read().upper())
''', place="notebooks/a.ipynb", files={"data/note.txt": "hello\n"}, reads=("data/note.txt",), writes=("out/upper.txt",), changes=(
    Change("tracked text", "data/note.txt", "hello", "hallo", r"note\.txt", "chdir", is_checked_out=True),))

stranger("text_corpus", '''
# %%
import re, glob
from collections import Counter
words = Counter()
for path in sorted(glob.glob("corpus/*.txt")):
    words.update(re.findall(r"[a-z]+", open(path, encoding="utf-8").read().lower()))
words.most_common(3)
# %%
len(words), sum(words.values())
''', files={"corpus/one.txt": "the cat and the hat\n", "corpus/two.txt": "a cat and a dog\n"},
    reads=("corpus/one.txt", "corpus/two.txt"), changes=(
    Change("a text more", "corpus/three.txt", "", "zebra zebra zebra zebra\n", r"corpus|three\.txt", "most_common", is_checked_out=True),))

# --- processes -------------------------------------------------------------------------------------------------------
stranger("process_pool", '''
# %%
from multiprocessing import Pool
from helpers import load
# %%
with Pool(2) as pool:
    print(pool.map(load, ["data/a.txt", "data/b.txt"]))
''', files={"helpers.py": "def load(path):\n    return len(open(path).read())\n"},
    ignored={"data/a.txt": "aaa", "data/b.txt": "bbbb"}, reads=("data/a.txt", "data/b.txt", "helpers.py"), changes=(
    Change("file of a worker", "data/b.txt", "bbbb", "bbbbb", r"b\.txt", "Pool(2)"),))

stranger("joblib_parallel", '''
# %%
from joblib import Memory, Parallel, delayed
from pathlib import Path
memory = Memory("cache", verbose=0)
@memory.cache
def square(x):
    return x * x
# %%
Parallel(n_jobs=2)(delayed(lambda path: int(Path(path).read_text()) ** 2)(f"data/{name}.txt") for name in "ab")
# %%
[square(x) for x in range(3)]
''', ignored={"data/a.txt": "3", "data/b.txt": "4"}, reads=("data/a.txt", "data/b.txt"),
    writes=("cache/joblib/*",), changes=(
    Change("file of a loky worker", "data/a.txt", "3", "5", r"a\.txt", "Parallel("),))

stranger("process_executor", '''
# %%
import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
# %%
with ProcessPoolExecutor(2) as executor:
    print(list(executor.map(math.factorial, range(8))))
# %%
with ThreadPoolExecutor() as executor:
    print(sum(executor.map(lambda k: k * k, range(100))))
''')

stranger("top_level_await", '''
# %%
import asyncio
async def fetch(k):
    await asyncio.sleep(0.01 * (3 - k))
    return k * 10
await asyncio.gather(*(fetch(k) for k in range(3)))
# %%
results = [await fetch(k) for k in range(2)]
results
''')

stranger("local_server", '''
# %%
import json, threading, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"path": self.path}).encode())
    def log_message(self, *args):
        pass
server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
# %%
with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/api?x=1") as answer:
    print(json.load(answer))
server.shutdown()
''')

# --- own code --------------------------------------------------------------------------------------------------------
stranger("module_beside", '''
# %%
%load_ext autoreload
%autoreload 2
import utils
# %%
utils.area(3)
''', files={"utils.py": "PI = 3.14\n\n\ndef area(r):\n    return PI * r * r\n"}, reads=("utils.py",), changes=(
    Change("own module", "utils.py", "3.14", "3.1416", r"utils\.py", "area(3)", is_checked_out=True),))

stranger("src_by_path", '''
# %%
import sys
sys.path.append("../src")
from churn.features import ratio
# %%
ratio(3, 4)
''', place="notebooks/a.ipynb", files={"src/churn/__init__.py": "", "src/churn/features.py": "SCALE = 1.0\n\n\ndef ratio(a, b):\n    return SCALE * a / b\n"},
    reads=("src/churn/features.py",), changes=(
    Change("module in src", "src/churn/features.py", "SCALE = 1.0", "SCALE = 2.0", r"features\.py", "ratio(3, 4)", is_checked_out=True),))

stranger("src_editable", '''
# %%
import churn
from importlib.resources import files
# %%
print(churn.FACTOR * 21, files("churn").joinpath("table.txt").read_text())
''', files={"src/churn/__init__.py": "FACTOR = 1.0\n", "src/churn/table.txt": "x\n", "pyproject.toml":
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            '[project]\nname = "churn"\nversion = "0.1"\n'}, reads=("src/churn/__init__.py", "src/churn/table.txt"),
    is_editable=True, changes=(
    Change("editable module", "src/churn/__init__.py", "1.0", "2.0", r"churn/__init__\.py", "FACTOR", is_checked_out=True),
    Change("package data", "src/churn/table.txt", "x", "y", r"table\.txt", "table.txt", is_checked_out=True),
))

stranger("edited_library", '''
# %%
import tinylib
print(tinylib.answer())
''', library={"tinylib/__init__.py": "from .core import answer\n", "tinylib/core.py": "def answer():\n    return 42\n"}, changes=(
    Change("edited library", "lib:tinylib/core.py", "42", "43", r"tinylib", "tinylib"),))

stranger("run_magic", '''
# %%
%run setup.py
# %%
exec(open("more.py").read())
print(base + extra)
''', files={"setup.py": "base = 10\n", "more.py": "extra = 5\n"}, reads=("setup.py", "more.py"), changes=(
    Change("script of %run", "setup.py", "10", "11", r"setup\.py", "base + extra", is_checked_out=True),
    Change("script of exec", "more.py", "5", "6", r"more\.py", "base + extra", is_checked_out=True),
))

stranger("yaml_config", '''
# %%
import yaml, configparser
config = yaml.safe_load(open("config.yaml"))
parser = configparser.ConfigParser()
parser.read("extra.ini")
config, dict(parser["a"])
# %%
[config["rate"] * k for k in range(3)]
''', files={"config.yaml": "rate: 0.5\nname: x\n", "extra.ini": "[a]\nb = 1\n"}, reads=("config.yaml", "extra.ini"), changes=(
    Change("configuration", "config.yaml", "0.5", "0.25", r"config\.yaml", "safe_load", is_checked_out=True),))

stranger("own_variable", '''
# %%
import os
alpha = float(os.environ.get("MY_ALPHA", "1.0"))
region = os.getenv("SHOP_REGION", "north")
# %%
print(region, alpha * 3)
''', variables={"MY_ALPHA": "0.5"}, changes=(
    Change("own variable", cause="MY_ALPHA", cell="alpha * 3", variables={"MY_ALPHA": "0.75"}, is_checked_out=True),
    Change("variable that was not set", cause="SHOP_REGION", cell="alpha * 3",
           variables={"MY_ALPHA": "0.5", "SHOP_REGION": "south"}, is_checked_out=True),
))

stranger("startup_file", '''
# %%
print(np.arange(RATE).sum())
''', home={".ipython/profile_default/startup/00-imports.py": "import numpy as np\nRATE = 5\n"}, changes=(
    Change("startup file", "~/.ipython/profile_default/startup/00-imports.py", "RATE = 5", "RATE = 6", r"startup|00-imports", "RATE"),))

stranger("command_line", '''
# %%
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--lr", type=float, default=1e-3)
args = parser.parse_args([])
args
# %%
print(vars(args), args.lr * args.epochs)
''')

stranger("dotenv_settings", '''
# %%
from dotenv import load_dotenv
import os
load_dotenv(".env")
print(os.environ["MODE"])
''', ignored={".env": "MODE=fast\n"}, reads=(".env",), changes=(
    Change("ignored .env", ".env", "fast", "slow", r"\.env|MODE", "load_dotenv"),))

# --- what is printed -------------------------------------------------------------------------------------------------
stranger("magics", '''
# %%
%matplotlib inline
%config InlineBackend.figure_format = "retina"
%time total = sum(range(100_000))
# %%
%%timeit -n 2 -r 2
sorted(range(1000), reverse=True)
# %%
%%capture captured
print("hidden")
# %%
%%writefile written.py
VALUE = 3
# %%
%whos int
!cat written.py
captured.stdout
''', writes=("written.py",))

stranger("progress_bars", '''
# %%
from tqdm.auto import tqdm
import time
for k in tqdm(range(20), desc="training"):
    time.sleep(0.005)
# %%
from tqdm import trange
for k in trange(3):
    pass
print("done")
''')

stranger("widgets", '''
# %%
import ipywidgets as widgets
from IPython.display import display
slider = widgets.IntSlider(value=3, min=0, max=10, description="n")
display(slider)
# %%
@widgets.interact(k=(0, 5))
def show(k=2):
    print(k ** 2)
# %%
out = widgets.Output()
with out:
    print("inside")
out
''', needs=("ipywidgets",))

stranger("logging_warnings", '''
# %%
import logging, warnings
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
log = logging.getLogger("training")
log.info("begin")
# %%
warnings.warn("this is old", DeprecationWarning)
import sys
print("to stderr", file=sys.stderr)
log.warning("loss is %.2f", 0.25)
''')

stranger("clock", '''
# %%
import time
from datetime import datetime
print("Started:", datetime.now().strftime("%Y-%m-%d %H:%M:%S"))
# %%
start = time.time()
total = sum(k * k for k in range(200_000))
print(f"Took {time.time() - start:.3f} seconds, {200_000 / (time.time() - start):.0f} items/s")
# %%
total
''')

stranger("dates", '''
# %%
import pandas as pd, datetime
days = pd.date_range("2024-02-26", periods=5)
days
# %%
print(datetime.date(2024, 3, 1) - datetime.timedelta(days=1), datetime.datetime(2020, 1, 1, 12, 30).isoformat())
''')

stranger("date_by_chance", '''
# %%
import datetime, random
start = datetime.date(2026, 3, 1)
start
# %%
print("demand is highest on", start + datetime.timedelta(days=random.randrange(4000)))
''', chance="randrange", cause=r"(?i)seed|generator|random")

stranger("rate_by_chance", '''
# %%
import numpy as np
rng = np.random.default_rng()
# %%
print(f"estimated bandwidth {rng.uniform(1, 9):.4f} GB/s")
print(f"needs {rng.uniform(1, 900):.3f} s in all")
''', chance="estimated bandwidth", cause=r"(?i)seed|generator|random")

stranger("set_order", '''
# %%
names = {"ann", "bob", "cy", "dora", "eve", "fay", "gus", "hal"}
len(names)
# %%
print(list(names))
''', chance="list(names)", cause=r"(?i)hash|\bset\b")

stranger("uuid_names", '''
# %%
import uuid, secrets
print("a fixed line")
# %%
token = uuid.uuid4().hex
print("experiment", token)
''', chance="uuid4", cause=r"(?i)seed|random|uuid|chance|generator")

stranger("addresses", '''
# %%
class Thing:
    pass
Thing()
# %%
print(object(), [Thing()], lambda x: x)
''')

stranger("display_updates", '''
# %%
from IPython.display import clear_output, display
handle = display("begin", display_id=True)
# %%
for k in range(3):
    handle.update(f"step {k}")
# %%
for k in range(3):
    clear_output(wait=True)
    print("frame", k)
''')

stranger("sympy_latex", '''
# %%
import sympy as sp
sp.init_printing()
x = sp.symbols("x")
sp.integrate(sp.sin(x) ** 2, x)
# %%
sp.solve(x ** 2 - 2, x)
''', needs=("sympy",))

stranger("expected_error", '''
# %%
try:
    1 / 0
except ZeroDivisionError as error:
    print("caught:", error)
# %%
int("not a number")
''', fails=True, edit=lambda content: content["cells"][-1]["metadata"].update(tags=["raises-exception"]))

stranger("fails", '''
# %%
print("begin")
# %%
import module_that_nobody_has
# %%
print("never")
''', fails=True)

stranger("asks_a_person", '''
# %%
name = input("Your name: ")
print(name)
''', fails=True)

# --- forms of the file -----------------------------------------------------------------------------------------------
stranger("untyped_parameters", '''
# %% parameters
x = 4
name = None
ratio = 1e-3
items = ["a", "b"]
flag = True
# %%
print(x, name, ratio, items, flag)
''', changes=(Change("untyped parameter", cause=r"\bx\b", cell="print(x", options=("-p", "x", "5"), is_checked_out=True),))

stranger("computed_parameters", '''
# %% parameters
import os
base = 2
size = base ** 5
path = os.path.join("data", "x.csv")
# %%
print(base, size, path)
''')

stranger("no_kernelspec", '''
# %%
print("hello")
''', metadata={"language_info": {"name": "python"}}, is_refused=True)

stranger("empty_metadata", '''
# %%
print("hello", 1 + 1)
''', metadata={}, is_refused=True)

stranger("old_format", '''
# %% text
Made with an older Jupyter
# %%
print("old")
# %%
1 + 1
''', edit=lambda content: (content.update(nbformat_minor=2), [cell.pop("id", None) for cell in content["cells"]],
                           content["cells"][-1].update(execution_count=17, outputs=[
                               {"output_type": "execute_result", "execution_count": 17, "metadata": {},
                                "data": {"text/plain": ["3"]}}])) and None)

stranger("string_sources", '''
# %%
print("a")
print("b")
# %%

# %% text

# %%
"end"
''', edit=lambda content: [cell.update(source="".join(cell["source"])) for cell in content["cells"]] and None)

stranger("missing_ids", '''
# %%
k = 1
# %%
k += 1
# %%
print(k)
''', edit=lambda content: [cell.pop("id", None) for cell in content["cells"]] and None)

stranger("unicode_names", '''
# %%
from pathlib import Path
größe = 3
print("größe", größe, "→ ✓ 你好")
# %%
Path("süß & co.txt").write_text("ä\\n", encoding="utf-8")
Path("ein ordner").mkdir(exist_ok=True)
Path("ein ordner/b.txt").write_text("b")
''', place="Mein Notizbuch (2).ipynb", writes=("süß & co.txt", "ein ordner/b.txt"))

