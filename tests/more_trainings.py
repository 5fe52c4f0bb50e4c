"""Twenty more trainings, each as somebody else writes it; none was written with a look at the code that records them."""
from trainings import Training

MORE_TRAININGS = {
    # ------------------------------------------------------------------ scikit-learn
    "tags": Training("""
# Multi-label toy problem: which of 5 topics does a document belong to?
import numpy as np
from sklearn.datasets import make_multilabel_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import coverage_error, hamming_loss, jaccard_score
from sklearn.model_selection import train_test_split
from sklearn.multiclass import OneVsRestClassifier

X, Y = make_multilabel_classification(n_samples=500, n_features=20, n_classes=5, n_labels=2, random_state=11)
X_train, X_test, Y_train, Y_test = train_test_split(X, Y, test_size=0.3, random_state=11)
X_train.shape, Y_train.shape, Y_train.mean(axis=0)
---
ovr = OneVsRestClassifier(LogisticRegression(C=0.5, max_iter=2000))
ovr.fit(X_train, Y_train)
Y_pred = ovr.predict(X_test)
Y_score = ovr.decision_function(X_test)
---
hl = hamming_loss(Y_test, Y_pred)
js = jaccard_score(Y_test, Y_pred, average="samples", zero_division=0)
ce = coverage_error(Y_test, Y_score)
subset = ovr.score(X_test, Y_test)
print(f"Hamming loss   : {hl:.4f}")
print(f"Jaccard        : {js:.4f}")
print(f"Coverage error : {ce:.4f}")
print(f"Exact match    : {subset:.4f}")
""", "{'test hamming_loss': hl, 'test jaccard': js, 'test coverage_error': ce, 'test accuracy': subset}"),
    "permutation": Training("""
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.inspection import permutation_importance
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler
from sklearn.svm import NuSVC

wine = load_wine(as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(wine.data[["ash", "hue", "magnesium", "malic_acid", "alcalinity_of_ash"]], wine.target, stratify=wine.target, random_state=8)
---
pipe = make_pipeline(RobustScaler(), NuSVC(nu=0.2)).fit(X_train, y_train)
acc_train = pipe.score(X_train, y_train)
acc_test = pipe.score(X_test, y_test)
print("train:", acc_train)
print("test: ", acc_test)
---
# which features does it actually use?
r = permutation_importance(pipe, X_test, y_test, n_repeats=4, random_state=0)
pd.Series(r.importances_mean, X_test.columns).sort_values(ascending=False).head(5)
""", "{'train accuracy': acc_train, 'test accuracy': acc_test}"),
    "calibration": Training("""
import matplotlib.pyplot as plt
import numpy as np
from sklearn import metrics
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.datasets import make_circles
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
np.random.seed(123)
data, labels = make_circles(n_samples=600, noise=0.25, factor=0.4, random_state=123)
data_train, data_test, labels_train, labels_test = train_test_split(data, labels, test_size=200, random_state=123)
---
isotonic = CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=4)
isotonic.fit(data_train, labels_train)
prob_pos = isotonic.predict_proba(data_test)[:, 1]
---
brier = metrics.brier_score_loss(labels_test, prob_pos)
ll = metrics.log_loss(labels_test, prob_pos)
print("Brier: %.5f\\tlog loss: %.5f" % (brier, ll))
---
fig, (ax1, ax2) = plt.subplots(1, 2, figsize=(9, 4))
roc = metrics.RocCurveDisplay.from_estimator(isotonic, data_test, labels_test, ax=ax1)
CalibrationDisplay.from_predictions(labels_test, prob_pos, n_bins=8, ax=ax2)
plt.tight_layout()
plt.show()
print("AUC from the plot", roc.roc_auc)
""", "{'test brier_score_loss': brier, 'test log_loss': ll, 'test auc': roc.roc_auc}", ("sklearn", "matplotlib")),
    "anomalies in a class": Training('''
from __future__ import annotations
import logging
from dataclasses import dataclass, field
import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import precision_score, recall_score, roc_auc_score

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
log = logging.getLogger("anomaly")
---
@dataclass
class AnomalyExperiment:
    """Trains on (almost) clean sensor data, tests on contaminated data."""
    contamination: float = 0.1
    seed: int = 99
    scores: dict[str, float] = field(default_factory=dict)

    def load(self) -> AnomalyExperiment:
        rng = np.random.default_rng(self.seed)
        self.X_train = rng.normal(0, 1, (400, 6))
        normal, weird = rng.normal(0, 1, (180, 6)), rng.normal(0, 3.5, (20, 6))
        self.X_test = np.vstack([normal, weird])
        self.y_test = np.r_[np.zeros(180, int), np.ones(20, int)]
        return self

    def fit(self) -> AnomalyExperiment:
        self.model = IsolationForest(n_estimators=50, contamination=self.contamination, random_state=self.seed)
        self.model.fit(self.X_train)
        return self

    def evaluate(self) -> dict[str, float]:
        flagged = (self.model.predict(self.X_test) == -1).astype(int)
        self.scores["precision"] = precision_score(self.y_test, flagged)
        self.scores["recall"] = recall_score(self.y_test, flagged)
        self.scores["auc"] = roc_auc_score(self.y_test, -self.model.score_samples(self.X_test))
        return self.scores
---
def main():
    exp = AnomalyExperiment(contamination=0.05).load().fit()
    for name, value in exp.evaluate().items():
        log.info("%s = %.4f", name, value)
    return exp

if __name__ == "__main__":
    exp = main()
    print(exp.scores)
''', "{'test precision': exp.scores['precision'], 'test recall': exp.scores['recall'], 'test roc_auc': exp.scores['auc']}"),
    "mixtures": Training("""
from sklearn.mixture import GaussianMixture
from sklearn.datasets import make_blobs
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score
import pandas as pd
X, _ = make_blobs(n_samples=350, centers=3, cluster_std=[1.0, 2.0, 0.6], random_state=21)
---
# choose the number of components with BIC
rows = []
for k in [2, 3, 4, 5]:
    gmm = GaussianMixture(n_components=k, covariance_type="full", n_init=2, random_state=21)
    labels = gmm.fit_predict(X)
    rows.append(dict(k=k, bic=gmm.bic(X), aic=gmm.aic(X), ch=calinski_harabasz_score(X, labels), db=davies_bouldin_score(X, labels)))
table = pd.DataFrame(rows).set_index("k")
table
---
table.bic.idxmin()
""", "{'bic': table.bic[2], 'aic': table.aic[2], 'calinski_harabasz': table.ch[2], 'davies_bouldin': table.db[2]}"),
    "threshold": Training("""
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, fbeta_score, ConfusionMatrixDisplay, confusion_matrix
from sklearn.model_selection import TunedThresholdClassifierCV, train_test_split
features, fraud = make_classification(n_samples=1200, n_features=12, weights=[0.9], flip_y=0.03, random_state=77)
features_train, features_test, fraud_train, fraud_test = train_test_split(features, fraud, stratify=fraud, test_size=0.4, random_state=77)
print(f"{fraud.mean():.1%} fraud")
---
# 0.5 is a terrible cut-off for imbalanced data -> tune it
tuned = TunedThresholdClassifierCV(LogisticRegression(), scoring="f1", cv=3)
tuned.fit(features_train, fraud_train)
tuned.best_threshold_, tuned.best_score_
---
fraud_pred = tuned.predict(features_test)
f1, f2 = f1_score(fraud_test, fraud_pred), fbeta_score(fraud_test, fraud_pred, beta=2)
print(confusion_matrix(fraud_test, fraud_pred))
print("F1 =", round(f1, 3), "| F2 =", round(f2, 3))
""", "{'test f1': f1, 'test fbeta': f2, 'validation best_f1': tuned.best_score_}"),
    "walk forward": Training("""
import numpy as np, pandas as pd
from sklearn.base import clone
from sklearn.linear_model import HuberRegressor
from sklearn.metrics import max_error, mean_absolute_percentage_error
from sklearn.model_selection import TimeSeriesSplit

# --- synthetic daily demand, weekly seasonality + trend
t = np.arange(420)
noise = np.random.RandomState(5).normal(0, 2, t.size)
sales = pd.Series(100 + 0.1 * t + 12 * np.sin(2 * np.pi * t / 7) + noise, index=pd.date_range("2023-01-01", periods=t.size), name="sales")
frame = pd.concat({f"lag_{k}": sales.shift(k) for k in (1, 2, 7, 14)} | {"sales": sales}, axis=1).dropna()
LAGS = [c for c in frame if c.startswith("lag_")]
frame.tail(3)
---
def backtest(estimator, part: pd.DataFrame) -> dict:
    forecast = estimator.predict(part[LAGS])
    return {"mape": mean_absolute_percentage_error(part["sales"], forecast), "worst": max_error(part["sales"], forecast)}

base = HuberRegressor(max_iter=500)
report = {}
for i, (past, future) in enumerate(TimeSeriesSplit(n_splits=3).split(frame)):
    train, valid = frame.iloc[past], frame.iloc[future]
    model = clone(base).fit(train[LAGS], train["sales"])
    report[f"fold {i}"] = backtest(model, valid)
pd.DataFrame(report).T
---
print("MAPE over folds: {:.2%}".format(np.mean([r["mape"] for r in report.values()])))
""", "{'validation mean_absolute_percentage_error': report['fold 0']['mape'], 'validation max_error': report['fold 0']['worst']}"),
    "halving": Training("""
# Principal component regression, number of components by successive halving
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.datasets import make_friedman1
from sklearn.decomposition import PCA
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import explained_variance_score, median_absolute_error
from sklearn.model_selection import HalvingGridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
A, b = make_friedman1(n_samples=600, n_features=8, noise=0.5, random_state=2024)
A_train, A_test, b_train, b_test = train_test_split(A, b, random_state=2024)
---
pcr = Pipeline(steps=[("poly", PolynomialFeatures(2, include_bias=False)), ("scale", StandardScaler()), ("pca", PCA(svd_solver="full")), ("reg", BayesianRidge())])
hgs = HalvingGridSearchCV(pcr, {"pca__n_components": [4, 10, 20, 40], "reg__lambda_1": [1e-6, 1e-3]}, factor=3, cv=3, random_state=2024, min_resources=120)
hgs.fit(A_train, b_train)
---
print(hgs.best_params_, hgs.n_iterations_)
print("CV R^2   %.4f" % hgs.best_score_)
print("Test R^2 %.4f" % (r2 := hgs.score(A_test, b_test)))
b_hat = hgs.best_estimator_.predict(A_test)
ev, medae = explained_variance_score(b_test, b_hat), median_absolute_error(b_test, b_hat)
print(ev, medae)
""", "{'validation best_score': hgs.best_score_, 'test r2': r2, 'test explained_variance': ev, 'test median_absolute_error': medae}"),
    # ------------------------------------------------------------------ Keras
    "sequences": Training("""
import numpy as np
import pandas as pd
from keras.callbacks import CSVLogger, ModelCheckpoint
from keras.layers import LSTM, Dense, Input
from keras.models import Sequential
from keras.utils import set_random_seed
set_random_seed(17)
series = np.sin(np.arange(0, 60, 0.1)) + np.random.normal(0, 0.05, 600)
---
def create_dataset(values, look_back=12):
    dataX, dataY = [], []
    for i in range(len(values) - look_back):
        dataX.append(values[i:i + look_back])
        dataY.append(values[i + look_back])
    return np.array(dataX, "float32")[..., None], np.array(dataY, "float32")

split = int(len(series) * 0.7)
trainX, trainY = create_dataset(series[:split])
testX, testY = create_dataset(series[split:])
trainX.shape, testX.shape
---
model = Sequential()
model.add(Input((12, 1)))
model.add(LSTM(8))
model.add(Dense(1))
model.compile(loss="mean_squared_error", optimizer="adam", metrics=["mae"])
cbs = [CSVLogger("lstm_log.csv"), ModelCheckpoint("best.weights.h5", save_best_only=True, save_weights_only=True, monitor="val_loss")]
model.fit(trainX, trainY, epochs=4, batch_size=32, validation_split=0.2, shuffle=False, callbacks=cbs, verbose=2)
---
log = pd.read_csv("lstm_log.csv")
print(log.round(4))
model.load_weights("best.weights.h5")
mse, mae = model.evaluate(testX, testY, verbose=0)
print("Test MSE: %.3f, MAE: %.3f" % (mse, mae))
""", "{'train loss': log['loss'].iloc[-1], 'validation mae': log['val_mae'].iloc[-1], 'test loss': mse, 'test mae': mae}", ("keras", "tensorflow", "pandas")),
    "reviews": Training("""
import random
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers
keras.utils.set_random_seed(31)
tf.config.experimental.enable_op_determinism()
pos, neg, rest = "loved great superb charming fun".split(), "boring awful dull weak mess".split(), "the movie plot was actor scene and a it".split()
def sentence(words):
    return " ".join(random.choices(rest, k=6) + random.choices(words, k=2))
y = [int(random.random() < 0.25) for _ in range(400)]        # only a quarter is positive
texts = [sentence(pos if label ^ (random.random() < 0.15) else neg) for label in y]  # some are sarcastic
texts[:3], y[:3]
---
vectorize = layers.TextVectorization(max_tokens=100, output_sequence_length=8)
vectorize.adapt(texts)
to_ids = lambda text, label: (vectorize(text), label)
ds = tf.data.Dataset.from_tensor_slices((texts, y)).batch(40).map(to_ids)
train_ds, val_ds = ds.skip(3).cache(), ds.take(3).cache()
n_pos = sum(y); n_neg = len(y) - n_pos
class_weight = {0: len(y) / (2 * n_neg), 1: len(y) / (2 * n_pos)}
print(class_weight)
---
class Talkative(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print(f"--> epoch {epoch}: val_auc is now {logs['val_auc']:.3f}")

model = keras.Sequential([layers.Embedding(100, 8), layers.GlobalAveragePooling1D(), layers.Dense(1, activation="sigmoid")])
model.compile(optimizer=keras.optimizers.Adam(0.05), loss="binary_crossentropy", metrics=[keras.metrics.BinaryAccuracy(name="acc"), keras.metrics.AUC(name="auc")])
decay = keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr * 0.5 if epoch else lr)
hist = model.fit(train_ds, validation_data=val_ds, epochs=3, class_weight=class_weight, callbacks=[decay, Talkative()], verbose=0)
---
for key in hist.history:
    print(f"{key:15s}", *(f"{v:.4f}" for v in hist.history[key]))
""", "{'train acc': hist.history['acc'][-1], 'validation auc': hist.history['val_auc'][-1], 'validation loss': hist.history['val_loss'][-1], 'learning_rate': hist.history['learning_rate'][-1]}", ("tensorflow",)),
    "two inputs": Training("""
import keras
import numpy as np
from keras import ops
from sklearn.metrics import mean_absolute_error
keras.utils.set_random_seed(404)
rng = np.random.default_rng(404)
N = 480
images = rng.random((N, 6, 6, 1)).astype("float32")
tabular = rng.normal(size=(N, 4)).astype("float32")
price = (images.mean(axis=(1, 2, 3)) * 4 + tabular @ [1.0, -0.5, 0.2, 0.0]).astype("float32")
train, val, test = np.split(np.arange(N), [320, 400])
---
def r_squared(y_true, y_pred):
    residual = ops.sum(ops.square(y_true - y_pred))
    total = ops.sum(ops.square(y_true - ops.mean(y_true)))
    return 1 - residual / (total + 1e-7)

img_in = keras.Input(shape=(6, 6, 1), name="image")
tab_in = keras.Input(shape=(4,), name="tabular")
a = keras.layers.Conv2D(4, 3, activation="relu")(img_in)
a = keras.layers.GlobalMaxPooling2D()(a)
b = keras.layers.Dense(8, activation="relu")(tab_in)
z = keras.layers.Concatenate()([a, b])
out = keras.layers.Dense(1)(z)
net = keras.Model(inputs=[img_in, tab_in], outputs=out, name="price_net")
net.compile(optimizer=keras.optimizers.RMSprop(0.01), loss=keras.losses.Huber(), metrics=[r_squared])
---
history = net.fit(
    {"image": images[train], "tabular": tabular[train]}, price[train, None],
    validation_data=({"image": images[val], "tabular": tabular[val]}, price[val, None]),
    epochs=5, batch_size=32, verbose=0,
)
print({k: round(v[-1], 4) for k, v in history.history.items()})
---
y_test = price[test]
y_pred = net.predict({"image": images[test], "tabular": tabular[test]}, verbose=0).ravel()
mae = mean_absolute_error(y_test, y_pred)
print(f"Test MAE: {mae:.3f}")
""", "{'train r_squared': history.history['r_squared'][-1], 'validation r_squared': history.history['val_r_squared'][-1], 'validation loss': history.history['val_loss'][-1], 'test mean_absolute_error': mae}", ("keras", "tensorflow", "sklearn")),
    "Keras folds": Training("""
# 3-fold CV of a small MLP, after a well known tutorial
from tensorflow.keras.models import Sequential
from tensorflow.keras.layers import Dense
from tensorflow.keras import backend as K
from sklearn.model_selection import StratifiedKFold
from sklearn.datasets import load_iris
import tensorflow as tf
import numpy
seed = 7
tf.keras.utils.set_random_seed(seed)
X, Y = load_iris(return_X_y=True)
kfold = StratifiedKFold(n_splits=3, shuffle=True, random_state=seed)
cvscores = []
histories = []
for train, test in kfold.split(X, Y):
    # create model
    model = Sequential()
    model.add(Dense(12, activation='relu'))
    model.add(Dense(3, activation='softmax'))
    # Compile model
    model.compile(loss='sparse_categorical_crossentropy', optimizer='nadam', metrics=['accuracy'])
    # Fit the model
    histories.append(model.fit(X[train], Y[train], epochs=8, batch_size=10, verbose=0))
    # evaluate the model
    scores = model.evaluate(X[test], Y[test], verbose=0)
    print("%s: %.2f%%" % ("accuracy", scores[1]*100))
    cvscores.append(scores[1])
    K.clear_session()
print("%.2f%% (+/- %.2f%%)" % (numpy.mean(cvscores)*100, numpy.std(cvscores)*100))
""", "{'test accuracy': cvscores[0], 'train loss': histories[0].history['loss'][-1], 'train accuracy/fit-2': histories[1].history['accuracy'][-1]}", ("tensorflow", "sklearn")),
    "loop in a class": Training('''
import numpy as np
import tensorflow as tf
import keras
from sklearn.datasets import make_moons

tf.random.set_seed(1234); np.random.seed(1234); keras.utils.set_random_seed(1234)
pts, cls = make_moons(n_samples=640, noise=0.15, random_state=1234)
pts, cls = pts.astype(np.float32), cls.astype(np.int32)
train_data = tf.data.Dataset.from_tensor_slices((pts[:512], cls[:512])).batch(64, drop_remainder=True)
valid_data = tf.data.Dataset.from_tensor_slices((pts[512:], cls[512:])).batch(64)
---
class Loop:
    """A bare-bones training loop."""

    def __init__(self, net, lr=2e-2):
        self.net = net
        self.optimizer = keras.optimizers.SGD(lr, momentum=0.9)
        self.criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.train_loss = keras.metrics.Mean(name="train_loss")
        self.val_loss = keras.metrics.Mean(name="val_loss")
        self.val_accuracy = keras.metrics.SparseCategoricalAccuracy(name="val_accuracy")
        self.log = []

    @tf.function
    def _train_batch(self, x, y):
        with tf.GradientTape() as tape:
            loss = self.criterion(y, self.net(x, training=True))
        grads = tape.gradient(loss, self.net.trainable_variables)
        self.optimizer.apply_gradients(zip(grads, self.net.trainable_variables))
        self.train_loss.update_state(loss)

    @tf.function
    def _valid_batch(self, x, y):
        logits = self.net(x, training=False)
        self.val_loss.update_state(self.criterion(y, logits))
        self.val_accuracy.update_state(y, logits)

    def fit(self, train, valid, epochs):
        for epoch in range(1, epochs + 1):
            for m in (self.train_loss, self.val_loss, self.val_accuracy):
                m.reset_state()
            for x, y in train:
                self._train_batch(x, y)
            for x, y in valid:
                self._valid_batch(x, y)
            row = {m.name: float(m.result()) for m in (self.train_loss, self.val_loss, self.val_accuracy)}
            self.log.append(row)
            print(f"[{epoch}/{epochs}]", " ".join(f"{k}={v:.4f}" for k, v in row.items()))
        return self.log
---
net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(2)])
log = Loop(net).fit(train_data, valid_data, epochs=4)
''', "{'train loss': log[-1]['train_loss'], 'validation loss': log[-1]['val_loss'], 'validation accuracy': log[-1]['val_accuracy']}", ("keras", "tensorflow", "sklearn")),
    # ------------------------------------------------------------------ boosting
    "XGBoost stops early": Training("""
import numpy as np
import pandas as pd
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier

SEED = 2021
X, y = make_classification(n_samples=900, n_features=15, n_informative=6, random_state=SEED)
X = pd.DataFrame(X, columns=[f"f{i}" for i in range(15)])
X_rest, X_test, y_rest, y_test = train_test_split(X, y, test_size=0.2, random_state=SEED)
X_train, X_valid, y_train, y_valid = train_test_split(X_rest, y_rest, test_size=0.25, random_state=SEED)
---
params = dict(n_estimators=60, max_depth=3, learning_rate=0.5, subsample=0.8, eval_metric=["error", "logloss"], early_stopping_rounds=5, random_state=SEED, n_jobs=1)
model = XGBClassifier(**params)
model.fit(X_train, y_train, eval_set=[(X_train, y_train), (X_valid, y_valid)], verbose=10)
---
res = model.evals_result()
print("best iteration", model.best_iteration, "best logloss", model.best_score)
preds = model.predict(X_test)
acc = accuracy_score(y_test, preds)
print(f"Accuracy: {acc:.4%}")
pd.Series(model.feature_importances_, X.columns).nlargest(5)
""", "{'train logloss': res['validation_0']['logloss'][-1], 'validation logloss': res['validation_1']['logloss'][-1], 'validation error': res['validation_1']['error'][-1], 'test accuracy': acc}", ("xgboost", "sklearn")),
    "LightGBM with its own metric": Training("""
import lightgbm as lgb, numpy as np
from sklearn.datasets import make_regression
from sklearn.model_selection import train_test_split
from sklearn.metrics import mean_squared_log_error
X, y = make_regression(500, 10, n_informative=5, noise=5, random_state=64)
y = np.exp(y / np.abs(y).max())  # positive & skewed
trn_x, val_x, trn_y, val_y = train_test_split(X, y, test_size=.3, random_state=64)
---
def rmsle(y_true, y_pred):
    err = np.sqrt(np.mean((np.log1p(np.maximum(y_pred, 0)) - np.log1p(y_true)) ** 2))
    return "rmsle", err, False  # (name, value, higher is better?)
---
reg = lgb.LGBMRegressor(objective="regression_l1", n_estimators=40, num_leaves=7, learning_rate=.1, random_state=64, n_jobs=1, deterministic=True, force_row_wise=True, verbosity=-1)
reg.fit(trn_x, trn_y, eval_set=[(val_x, val_y)], eval_names=["valid"], eval_metric=rmsle, callbacks=[lgb.log_evaluation(20), lgb.early_stopping(10)])
---
scores = reg.evals_result_["valid"]
print({k: v[-1] for k, v in scores.items()}, "stopped at", reg.best_iteration_)
msle = mean_squared_log_error(val_y, reg.predict(val_x))
print("msle", msle, "rmsle", msle ** .5)
""", "{'validation rmsle': scores['rmsle'][-1], 'validation l1': scores['l1'][-1], 'validation mean_squared_log_error': msle}", ("lightgbm", "sklearn")),
    "CatBoost with categories": Training("""
import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, Pool

rng = np.random.RandomState(1)
n = 700
train = pd.DataFrame({
    "city": rng.choice(["Porto", "Lyon", "Graz", "Brno"], n),
    "device": rng.choice(["ios", "android", "web"], n, p=[.3, .5, .2]),
    "visits": rng.poisson(4, n),
    "minutes": rng.exponential(10, n).round(1),
})
logit = (train.city == "Graz") * 1.2 - (train.device == "web") * 0.9 + 0.25 * train.visits - 1.2
train["churn"] = (rng.rand(n) < 1 / (1 + np.exp(-logit))).astype(int)
train.groupby("city").churn.mean()
---
cat_features = ["city", "device"]
valid = train.sample(frac=0.25, random_state=1)
train = train.drop(valid.index)
train_pool = Pool(train.drop(columns="churn"), train.churn, cat_features=cat_features)
valid_pool = Pool(valid.drop(columns="churn"), valid.churn, cat_features=cat_features)
---
cb = CatBoostClassifier(iterations=25, depth=4, learning_rate=0.2, eval_metric="AUC", custom_metric=["Accuracy"], random_seed=1, thread_count=1, allow_writing_files=False, verbose=False)
cb.fit(train_pool, eval_set=valid_pool, use_best_model=True)
---
evals = cb.get_evals_result()
print("best", cb.best_score_["validation"])
print(cb.get_feature_importance(prettified=True))
evals["validation"]["AUC"][-1]
""", "{'train Logloss': evals['learn']['Logloss'][-1], 'validation AUC': evals['validation']['AUC'][-1], 'validation Logloss': evals['validation']['Logloss'][-1]}", ("catboost", "pandas")),
    # ------------------------------------------------------------------ PyTorch and its family
    "lightning with metric objects": Training("""
import logging, warnings
warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
import lightning as L
import torch
import torch.nn.functional as F
from sklearn.datasets import load_iris
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
torch.set_num_threads(1)
L.seed_everything(2718, verbose=False)
---
class IrisData(L.LightningDataModule):
    def __init__(self, batch_size=16):
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage=None):
        if hasattr(self, "train_set"):
            return
        iris = load_iris()
        full = TensorDataset(torch.tensor(iris.data, dtype=torch.float32), torch.tensor(iris.target))
        self.train_set, self.val_set, self.test_set = random_split(full, [90, 30, 30], torch.Generator().manual_seed(2718))

    def train_dataloader(self):
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test_set, self.batch_size)
---
class IrisNet(L.LightningModule):
    def __init__(self, hidden: int = 24, lr: float = 1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, 3))
        self.train_acc = MulticlassAccuracy(3, average="micro")
        self.val_acc = MulticlassAccuracy(3, average="micro")
        self.test_f1 = MulticlassF1Score(3)

    def training_step(self, batch, _):
        x, y = batch
        logits = self.layers(x)
        loss = F.cross_entropy(logits, y)
        self.train_acc(logits, y)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        x, y = batch
        self.val_acc(self.layers(x), y)
        self.log("val/acc", self.val_acc)

    def test_step(self, batch, _):
        x, y = batch
        self.test_f1(self.layers(x), y)
        self.log("test/f1", self.test_f1)

    def configure_optimizers(self):
        opt = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        return [opt], [torch.optim.lr_scheduler.StepLR(opt, 2)]
---
dm, net = IrisData(), IrisNet()
trainer = L.Trainer(max_epochs=3, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(net, datamodule=dm)
fitted = {k: v.item() for k, v in trainer.callback_metrics.items()}
print(fitted)
---
result = trainer.test(net, datamodule=dm)
""", "{'train loss': fitted['train/loss'], 'train acc': fitted['train/acc'], 'validation acc': fitted['val/acc'], 'test f1': result[0]['test/f1']}", ("lightning", "torchmetrics", "sklearn")),
    "tiny GPT": Training("""
import os
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["DISABLE_MLFLOW_INTEGRATION"] = "TRUE"
import math, warnings
warnings.filterwarnings("ignore")
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed
torch.set_num_threads(1)
set_seed(1337)
text = "to be or not to be that is the question " * 40
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
print(len(text), "characters,", len(chars), "different")
---
class CharDataset(Dataset):
    def __init__(self, s, block=16):
        ids = torch.tensor([stoi[c] for c in s])
        self.blocks = [ids[i:i + block] for i in range(0, len(ids) - block, block)]
    def __len__(self):
        return len(self.blocks)
    def __getitem__(self, i):
        return {"input_ids": self.blocks[i], "labels": self.blocks[i]}

n = int(0.9 * len(text))
train_dataset, eval_dataset = CharDataset(text[:n]), CharDataset(text[n:])
---
config = GPT2Config(vocab_size=len(chars), n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
model = GPT2LMHeadModel(config)
print(f"{model.num_parameters():,} parameters")

class Perplexity(TrainerCallback):
    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        print(f"epoch {state.epoch:.0f}: ppl {math.exp(metrics['eval_loss']):.2f}")

args = TrainingArguments(output_dir="gpt", num_train_epochs=3, per_device_train_batch_size=16, per_device_eval_batch_size=16, learning_rate=5e-3, eval_strategy="epoch", logging_strategy="no", save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=1337)
trainer = Trainer(model=model, args=args, train_dataset=train_dataset, eval_dataset=eval_dataset, callbacks=[Perplexity()])
outcome = trainer.train()
---
final = trainer.evaluate()
print(f"train loss {outcome.training_loss:.4f} | eval loss {final['eval_loss']:.4f} | perplexity {math.exp(final['eval_loss']):.2f}")
""", "{'train mean_loss': outcome.training_loss, 'validation loss': final['eval_loss']}", ("transformers", "accelerate"), False),
    "learner from arrays": Training("""
import warnings; warnings.simplefilter("ignore")
from fastai.basics import *
from fastai.metrics import R2Score, mae
import numpy as np
torch.set_num_threads(1)
set_seed(55, reproducible=True)
x = np.linspace(-2, 2, 400, dtype=np.float32)[:, None]
y = x ** 3 - 2 * x + np.random.normal(0, .2, x.shape).astype(np.float32)
idx = np.random.permutation(400)
trn, val = idx[:320], idx[320:]
---
pairs = lambda ix: list(zip(torch.from_numpy(x[ix]), torch.from_numpy(y[ix])))
dls = DataLoaders(DataLoader(pairs(trn), bs=32, shuffle=True, num_workers=0), DataLoader(pairs(val), bs=32, num_workers=0))
mlp = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 1))
learn = Learner(dls, mlp, loss_func=MSELossFlat(), opt_func=Adam, metrics=[mae, R2Score()], lr=1e-2)
---
learn.fit(3)
---
L(learn.recorder.values)
""", "{'train loss': learn.recorder.values[-1][0], 'validation loss': learn.recorder.values[-1][1], 'validation mae': learn.recorder.values[-1][2]}", ("fastai",), False),
    "skorch in a search": Training("""
import numpy as np
import torch
from torch import nn
from sklearn.datasets import make_friedman2  # california housing needs the internet :(
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.metrics import mean_squared_error
from skorch import NeuralNetRegressor
torch.manual_seed(6); torch.set_num_threads(1)
Xall, yall = make_friedman2(n_samples=400, noise=10, random_state=6)
Xall = Xall.astype(np.float32); yall = ((yall - yall.mean()) / yall.std()).astype(np.float32).reshape(-1, 1)
Xtrain, Xtest, ytrain, ytest = train_test_split(Xall, yall, random_state=6)
---
class Regressor(nn.Module):
    def __init__(self, units=8):
        super().__init__()
        self.hidden = nn.Linear(4, units)
        self.out = nn.Linear(units, 1)
    def forward(self, X):
        return self.out(torch.relu(self.hidden(X)))

pipe = Pipeline([
    ("scale", StandardScaler()),
    ("net", NeuralNetRegressor(Regressor, max_epochs=5, lr=0.05, batch_size=32, optimizer=torch.optim.Adam, train_split=None, verbose=0)),
])
gs = GridSearchCV(pipe, {"net__module__units": [4, 16], "net__lr": [0.05, 0.005]}, cv=3, scoring="neg_mean_squared_error")
gs.fit(Xtrain, ytrain)
print(gs.best_score_, gs.best_params_)
---
mse = mean_squared_error(ytest, gs.predict(Xtest))
print("held-out MSE", mse, "-> RMSE", mse ** 0.5)
""", "{'validation best_neg_mean_squared_error': gs.best_score_, 'test mean_squared_error': mse}", ("skorch", "sklearn")),
}
