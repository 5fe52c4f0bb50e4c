"""Files of many formats, as their libraries write them: python format_writers.py FOLDER VALUE [WRITER ...]

Each writer writes the same content each time but for VALUE, one number in it. Prints the writers whose library is not installed."""
import datetime
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

WRITERS: dict[str, Callable[[float], object]] = {}


def writer(function: Callable[[float], object]) -> Callable[[float], object]:
    WRITERS[function.__name__] = function
    return function


def numbers(value: float):
    import numpy as np

    array = np.arange(12.0).reshape(3, 4).astype("float32")
    array[1, 2] = value
    return array


@writer
def numpy(value: float) -> None:
    import numpy as np

    np.save("a.npy", numbers(value))
    np.savez("a.npz", w=numbers(value), b=np.arange(3))
    np.save("objects.npy", np.array([{"a": value}, None], dtype=object), allow_pickle=True)


@writer
def archives(value: float) -> None:
    import bz2
    import gzip
    import lzma
    import shutil

    folder = Path("packed")
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_text(f"value {value}\n")
    for kind in ("zip", "tar", "gztar", "bztar", "xztar"):
        shutil.make_archive("a", kind, folder)
    for opener, end in ((gzip.open, "gz"), (bz2.open, "bz2"), (lzma.open, "xz")):
        with opener(f"a.csv.{end}", "wt") as file:
            file.write(f"a,b\n1,{value}\n")


@writer
def h5py(value: float) -> None:
    import h5py
    import numpy as np

    with h5py.File("a.h5", "w") as file:
        file.create_dataset("x", data=numbers(value), track_times=True)
        file.create_dataset("words", data=["a", "bb"], dtype=h5py.string_dtype(), track_times=True)
        file.create_dataset("table", data=np.array([(1, value)], dtype=[("i", "i1"), ("f", "f8")]), track_times=True)
        file["reference"], file["link"], file.attrs["note"] = file["x"].ref, h5py.SoftLink("/x"), "é"


@writer
def pandas(value: float) -> None:
    import pandas as pd

    table = pd.DataFrame({"a": [1, 2, 3], "v": [value, 2.0, 3.0], "s": ["x", None, "z"]})
    table.to_csv("a.csv")
    table.to_pickle("table.pkl")
    table.to_parquet("a.parquet")
    table.to_feather("a.feather")
    table.to_orc("a.orc")


@writer
def pickles(value: float) -> None:
    import numpy as np

    content = {"set": {"ab", "cd", "ef", "gh", "ij"}, "v": value, "w": np.arange(4.0), "f": frozenset(["q", "w", "e", "r"])}
    for protocol in (0, 2, 5):
        Path(f"protocol-{protocol}.pkl").write_bytes(pickle.dumps(content if protocol else {"v": value}, protocol))
    moments = {"when": datetime.datetime.now(), "at": time.time(), "v": value}
    Path("moments.pkl").write_bytes(pickle.dumps(moments))


@writer
def joblib(value: float) -> None:
    import joblib
    import numpy as np

    content = {"w": numbers(value), "b": np.arange(5), "o": np.array([1, "a"], dtype=object), "f": np.asfortranarray(numbers(2.0))}
    for kind in (0, "zlib", "gzip", "bz2", "lzma", "xz"):
        joblib.dump(content, f"{kind or 'plain'}.joblib", compress=(kind, 3) if kind else 0)


@writer
def sklearn(value: float) -> None:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_iris(return_X_y=True)
    x[:, 1] *= value
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(x + value, y)
    forest = RandomForestClassifier(5, random_state=0).fit(x, y)
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1]}).fit(x, y)
    for name, model in (("pipeline", pipeline), ("forest", forest), ("search", search)):
        joblib.dump(model, f"{name}.joblib")
        Path(f"{name}.pkl").write_bytes(pickle.dumps(model))


@writer
def cloudpickle(value: float) -> None:
    import cloudpickle

    names: dict = {"__name__": "__main__"}
    source = f"class Model:\n    def predict(self, x):\n        return x * {value!r}\nmodel = Model()\n"
    exec(compile(source, f"/tmp/ipykernel_{os.getpid()}/123.py", "exec"), names)
    Path("cloud.pkl").write_bytes(cloudpickle.dumps((names["model"], lambda x: x + value)))


@writer
def sqlite(value: float) -> None:
    import sqlite3

    Path("a.db").unlink(missing_ok=True)
    database = sqlite3.connect("a.db")
    database.execute("CREATE TABLE runs (loss REAL, at TEXT DEFAULT CURRENT_TIMESTAMP, ended REAL)")
    database.execute("INSERT INTO runs (loss, ended) VALUES (?, ?)", (value, time.time()))
    database.commit()
    database.close()


@writer
def pillow(value: float) -> None:
    import numpy as np
    from PIL import Image, PngImagePlugin

    pixels = (np.arange(3000) % 250).astype("uint8").reshape(50, 20, 3)
    pixels[3, 3, 0] = int(value * 60)
    image, info, exif = Image.fromarray(pixels), PngImagePlugin.PngInfo(), Image.Exif()
    info.add_text("Creation Time", time.ctime())
    exif[306] = time.strftime("%Y:%m:%d %H:%M:%S")
    image.save("a.png", pnginfo=info)
    image.save("a.jpg", exif=exif, quality=95)
    image.save("a.webp", exif=exif, lossless=True)
    image.save("a.gif")
    image.save("a.tif", tiffinfo={306: exif[306]})
    deep = (np.arange(400) * 100).astype("uint16").reshape(20, 20)
    deep[3, 3] = int(value) * 5000
    Image.fromarray(deep).save("deep.png")


@writer
def matplotlib(value: float) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(3, 2))
    axes.plot([0, value, 2], label="α")
    axes.legend()
    for kind in ("png", "svg", "svgz", "pdf", "eps", "ps"):
        figure.savefig(f"figure.{kind}")
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig("fonts.pdf")


@writer
def scipy(value: float) -> None:
    from scipy.io import savemat, wavfile

    savemat("a.mat", {"w": numbers(value), "s": "x"})
    savemat("compressed.mat", {"w": numbers(value)}, do_compression=True)
    wavfile.write("a.wav", 8000, numbers(value))


@writer
def tensorboard(value: float) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    Path("board").mkdir(exist_ok=True)
    events = RecordWriter(open(f"board/events.out.tfevents.{int(time.time())}.host.{os.getpid()}.0", "wb"))
    for step, loss in enumerate((1.0, value)):
        summary = {"value": [{"tag": "loss", "simple_value": loss}]}
        events.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
    events.close()


@writer
def nbformat(value: float) -> None:
    import nbformat

    cell = nbformat.v4.new_code_cell("print(v)", outputs=[nbformat.v4.new_output("stream", text=f"{value}\n")])
    cell.metadata["papermill"] = {"start_time": datetime.datetime.now().isoformat(), "duration": time.perf_counter()}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), "a.ipynb")


@writer
def tensorflow(value: float) -> None:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    x, y = np.ones((8, 4), "float32"), np.ones((8, 2), "float32")
    x[0, 0] = value
    model.fit(x, y, epochs=2, verbose=0, callbacks=[keras.callbacks.TensorBoard("keras-board")])
    model.save("model.keras")
    model.save("model.h5")
    model.save_weights("model.weights.h5")
    model.export("exported", verbose=False)
    module = tf.Module()
    module.scale = tf.function(lambda t: t * value, input_signature=[tf.TensorSpec([None, 4])])
    tf.saved_model.save(module, "saved")
    tf.train.CheckpointManager(tf.train.Checkpoint(v=tf.Variable([1.0, value])), "checkpoints", max_to_keep=2).save()


@writer
def torch(value: float) -> None:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    with torch.no_grad():
        model[0].weight[0, 0] = value
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(8, 3)).sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "checkpoint.pt")
    torch.save(model, "whole.pth")
    torch.save(model.state_dict(), "legacy.pt", _use_new_zipfile_serialization=False)
    torch.jit.script(model.eval()).save("script.pt")


@writer
def torch_board(value: float) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter("torch-board") as events:
        events.add_scalar("loss", value, 1)
        events.add_text("note", "hello")
        events.add_hparams({"lr": 0.1, "n": 3, "s": "x"}, {"acc": value})


@writer
def tensorboardX(value: float) -> None:
    from tensorboardX import SummaryWriter

    with SummaryWriter("boardx") as events:
        events.add_scalar("loss", value, 1)


@writer
def safetensors(value: float) -> None:
    from safetensors.numpy import save_file

    save_file({"w": numbers(value)}, "a.safetensors", metadata={letter: "1" for letter in "abcdefgh"})


@writer
def tables(value: float) -> None:
    import tables

    with tables.open_file("pytables.h5", "w") as file:
        file.create_array("/", "a", numbers(value))
        file.create_vlarray("/", "ragged", tables.Float64Atom()).append([value, 2.0])


@writer
def netCDF4(value: float) -> None:
    import netCDF4

    for name, kind in (("a.nc", "NETCDF4"), ("classic.nc", "NETCDF3_CLASSIC")):
        with netCDF4.Dataset(name, "w", format=kind) as file:
            file.createDimension("x", 3)
            file.createVariable("v", "f4", ("x",))[:] = [1, 2, value]


@writer
def xarray(value: float) -> None:
    import xarray

    xarray.Dataset({"v": ("x", [1.0, value])}).to_netcdf("xarray.nc")


@writer
def zarr(value: float) -> None:
    import zarr

    zarr.open_group("a.zarr", mode="w").create_array("v", shape=(3, 4), dtype="f4", chunks=(2, 2))[:] = numbers(value)


@writer
def polars(value: float) -> None:
    import polars

    table = polars.DataFrame({"a": [1, 2], "v": [value, 1.0]})
    table.write_parquet("polars.parquet")
    table.write_ipc("polars.arrow")
    table.write_avro("polars.avro")


@writer
def fastavro(value: float) -> None:
    import fastavro

    schema = {"type": "record", "name": "r", "fields": [{"name": "v", "type": "double"}]}
    with open("fast.avro", "wb") as file:
        fastavro.writer(file, schema, [{"v": value}])


@writer
def duckdb(value: float) -> None:
    import duckdb

    Path("a.duckdb").unlink(missing_ok=True)
    duckdb.sql(f"COPY (SELECT {value} v, range a FROM range(5)) TO 'duck.parquet'")
    with duckdb.connect("a.duckdb") as database:
        database.sql(f"CREATE TABLE t AS SELECT {value} v")


@writer
def openpyxl(value: float) -> None:
    import pandas as pd

    pd.DataFrame({"v": [value, 2]}).to_excel("open.xlsx", engine="openpyxl")


@writer
def xlsxwriter(value: float) -> None:
    import pandas as pd

    pd.DataFrame({"v": [value, 2]}).to_excel("writer.xlsx", engine="xlsxwriter")


@writer
def docx(value: float) -> None:
    import docx

    document = docx.Document()
    document.add_paragraph(f"value {value}")
    document.save("a.docx")


@writer
def reportlab(value: float) -> None:
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas("reportlab.pdf")
    canvas.drawString(100, 100, f"value {value}")
    canvas.save()


@writer
def fpdf(value: float) -> None:
    import fpdf

    document = fpdf.FPDF()
    document.add_page()
    document.set_font("Helvetica")
    document.cell(text=f"value {value}")
    document.output("fpdf.pdf")


@writer
def skl2onnx(value: float) -> None:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, value, 3.0])
    converted = convert_sklearn(model, initial_types=[("x", FloatTensorType([None, 1]))])
    Path("a.onnx").write_bytes(converted.SerializeToString())


@writer
def xgboost(value: float) -> None:
    import numpy as np
    import xgboost

    x = np.random.RandomState(0).rand(60, 3)
    model = xgboost.XGBRegressor(n_estimators=3).fit(x, x[:, 0] * value)
    model.save_model("x.json")
    model.save_model("x.ubj")


@writer
def lightgbm(value: float) -> None:
    import lightgbm
    import numpy as np

    x = np.random.RandomState(0).rand(60, 3)
    lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(x, x[:, 0] * value).booster_.save_model("light.txt")


@writer
def catboost(value: float) -> None:
    import catboost
    import numpy as np

    x = np.random.RandomState(0).rand(60, 3)
    model = catboost.CatBoostRegressor(iterations=3, verbose=0, allow_writing_files=False).fit(x, x[:, 0] * value)
    model.save_model("cat.cbm")
    model.save_model("cat.json", format="json")


@writer
def gensim(value: float) -> None:
    from gensim.models import Word2Vec

    words = [["a", "b", "c"], ["b", "c", "d" if value == 1 else "e"]] * 3
    Word2Vec(words, vector_size=4, min_count=1, seed=1, workers=1).save("words.model")


@writer
def soundfile(value: float) -> None:
    import numpy as np
    import soundfile

    sound = np.sin(np.arange(8000) / 8 * value).astype("float32")
    for end in ("wav", "ogg", "flac"):
        soundfile.write(f"sound.{end}", sound, 8000)


@writer
def imageio(value: float) -> None:
    import imageio
    import numpy as np

    imageio.mimwrite("film.mp4", [np.full((32, 32, 3), int(40 * frame + value * 9), "uint8") for frame in range(4)], fps=4)


@writer
def plotly(value: float) -> None:
    import plotly.graph_objects

    plotly.graph_objects.Figure(plotly.graph_objects.Scatter(y=[1, value])).write_json("plotly.json")


@writer
def altair(value: float) -> None:
    import altair
    import pandas as pd

    altair.Chart(pd.DataFrame({"x": [1, value]})).mark_point().encode(x="x").save("altair.html")


def main() -> None:
    folder, value = Path(sys.argv[1]), float(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    for name in sys.argv[3:] or WRITERS:
        try:
            WRITERS[name](value)
        except ImportError as error:
            print(f"{name}: {error}", flush=True)


if __name__ == "__main__":
    main()
