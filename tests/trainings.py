"""Trainings as other people write them in notebooks: cells, apart by a line of dashes, and what the libraries themselves report in the end."""
from dataclasses import dataclass
from typing import Any


@dataclass
class Training:
    """A notebook that trains."""

    source: str  # of its cells, which a line `---` separates
    told: str  # a dictionary in Python, of what the record has to hold by split and name, evaluated after the last cell
    needs: tuple[str, ...] = ("sklearn",)  # modules
    is_same: bool = True  # whether two runs compute the same bits; else only the metrics are looked at
    environ: tuple[tuple[str, str], ...] = ()  # variables that it is run with

    def list_cells(self) -> list[dict[str, Any]]:
        """Build the cells, and one more that keeps what was reported."""
        keep = f"import json as _json\nopen('told.json', 'w').write(_json.dumps({{k: float(v) for k, v in ({self.told}).items()}}));"
        sources = [*(cell.strip("\n") for cell in f"\n{self.source}\n".split("\n---\n")), keep]
        return [{"cell_type": "code", "id": f"cell-{number}", "execution_count": None, "outputs": [], "metadata": {}, "source": source}
                for number, source in enumerate(sources)]


BOARD = ("TF_CPP_MIN_LOG_LEVEL", "3")
DIGITS = """
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=1)
"""
HOUSES = """
import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
data = load_diabetes(as_frame=True)
df = data.frame
train_df, test_df = train_test_split(df, test_size=0.2, random_state=42)
features = [c for c in df.columns if c != "target"]
"""
SKLEARN = {
    "passengers": Training("""
import pandas as pd, numpy as np
rng = np.random.default_rng(7)
df = pd.DataFrame({"Pclass": rng.integers(1, 4, 400), "Sex": rng.choice(["male", "female"], 400), "Age": rng.normal(30, 12, 400).round(), "Fare": rng.gamma(2, 15, 400)})
df["Survived"] = ((df.Sex == "female") * 1.5 - df.Pclass * 0.5 + rng.normal(size=400) > 0).astype(int)
df.head()
---
df["Sex"] = df["Sex"].map({"male": 0, "female": 1})
df.isnull().sum()
---
from sklearn.model_selection import train_test_split
x = df.drop("Survived", axis=1)
y = df["Survived"]
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0)
---
from sklearn.linear_model import LogisticRegression
lr = LogisticRegression(max_iter=1000)
lr.fit(x_train, y_train)
y_pred = lr.predict(x_test)
---
from sklearn.metrics import accuracy_score
acc = accuracy_score(y_test, y_pred)
print("Accuracy of the model: {:.2f}%".format(acc * 100))
""", "{'test accuracy': acc}"),
    "neighbours": Training(DIGITS + """
---
from sklearn.neighbors import KNeighborsClassifier
scores = []
for k in range(1, 8):
    knn = KNeighborsClassifier(n_neighbors=k)
    knn.fit(X_train, y_train)
    scores.append(knn.score(X_test, y_test))
print(scores)
---
best = int(np.argmax(scores)) + 1
print("best k:", best, max(scores))
""", "{'test accuracy': scores[0]}"),
    "report": Training(DIGITS + """
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import classification_report, confusion_matrix
clf = RandomForestClassifier(n_estimators=20, random_state=0)
clf.fit(X_train, y_train)
predictions = clf.predict(X_test)
print(classification_report(y_test, predictions))
print(confusion_matrix(y_test, predictions))
""", "{'test accuracy': float(classification_report(y_test, predictions).split('accuracy')[1].split()[0])}"),
    "pipeline": Training("""
import numpy as np, pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
rs = np.random.RandomState(0)
people = pd.DataFrame({"age": rs.randint(18, 90, 300).astype(float), "job": rs.choice(list("abc"), 300), "hours": rs.normal(40, 8, 300)})
people.loc[::17, "age"] = np.nan
target = (people["hours"] + people["age"].fillna(30) / 4 > 48).astype(int)
---
numeric, categorical = ["age", "hours"], ["job"]
pre = ColumnTransformer([("num", make_pipeline(SimpleImputer(), StandardScaler()), numeric), ("cat", OneHotEncoder(handle_unknown="ignore"), categorical)])
pipe = Pipeline([("prep", pre), ("model", LogisticRegression())])
pipe.fit(people[:200], target[:200])
---
train_score = pipe.score(people[:200], target[:200])
test_score = pipe.score(people[200:], target[200:])
print(f"train {train_score:.3f}  test {test_score:.3f}")
""", "{'train accuracy': train_score, 'test accuracy': test_score} if False else {'accuracy': test_score}"),
    "grid search": Training(DIGITS + """
---
from sklearn.svm import SVC
from sklearn.model_selection import GridSearchCV
grid = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.01, 0.1]}, cv=3)
grid.fit(X_train, y_train)
print(grid.best_params_)
grid.best_score_
---
grid.score(X_test, y_test)
""", "{'validation best_score': grid.best_score_, 'test accuracy': grid.score(X_test, y_test)}"),
    "random search": Training(DIGITS + """
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import RandomizedSearchCV
from scipy.stats import randint
search = RandomizedSearchCV(RandomForestClassifier(random_state=0), {"n_estimators": randint(5, 30), "max_depth": [3, 6, None]}, n_iter=4, random_state=0, cv=2, scoring="f1_macro")
search.fit(X_train, y_train)
---
print("Best: %f using %s" % (search.best_score_, search.best_params_))
pd_results = sorted(search.cv_results_["mean_test_score"])
print(pd_results)
""", "{'validation best_f1_macro': search.best_score_}"),
    "folds": Training("""
from sklearn import datasets, svm
from sklearn.model_selection import cross_val_score
iris = datasets.load_iris()
clf = svm.SVC(kernel="linear", C=1, random_state=42)
scores = cross_val_score(clf, iris.data, iris.target, cv=5)
print("%0.2f accuracy with a standard deviation of %0.2f" % (scores.mean(), scores.std()))
""", "{'validation accuracy': scores.mean()}"),
    "regression": Training(HOUSES + """
---
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error, r2_score, mean_absolute_error
model = LinearRegression().fit(train_df[features], train_df["target"])
y_hat = model.predict(test_df[features])
rmse = np.sqrt(mean_squared_error(test_df["target"], y_hat))
print("RMSE", rmse)
print("MAE", mean_absolute_error(test_df["target"], y_hat), "R2", r2_score(test_df["target"], y_hat))
""", "{'test mean_squared_error': rmse ** 2, 'test r2': r2_score(test_df['target'], y_hat)}"),
    "many models": Training(HOUSES + """
---
from sklearn.linear_model import Ridge, Lasso, ElasticNet
from sklearn.ensemble import RandomForestRegressor
models = {"ridge": Ridge(), "lasso": Lasso(alpha=0.1), "net": ElasticNet(), "forest": RandomForestRegressor(n_estimators=10, random_state=3)}
results = {}
for name, m in models.items():
    m.fit(train_df[features], train_df.target)
    results[name] = m.score(test_df[features], test_df.target)
pd.Series(results).sort_values()
""", "{'test r2': results['ridge'], 'test r2/Lasso': results['lasso'], 'test r2/RandomForestRegressor': results['forest']}"),
    "clusters": Training("""
from sklearn.datasets import make_blobs
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
X, _ = make_blobs(300, centers=4, random_state=0)
inertias = []
for k in range(2, 6):
    km = KMeans(k, n_init=3, random_state=0).fit(X)
    inertias.append(km.inertia_)
    print(k, km.inertia_, silhouette_score(X, km.labels_))
""", "{'silhouette': silhouette_score(X, KMeans(2, n_init=3, random_state=0).fit(X).labels_)}"),
    "perceptron": Training(DIGITS + """
from sklearn.neural_network import MLPClassifier
mlp = MLPClassifier((32,), max_iter=8, random_state=1, verbose=True, early_stopping=True)
mlp.fit(X_train, y_train)
---
print("Training set score: %f" % mlp.score(X_train, y_train))
print("Test set score: %f" % mlp.score(X_test, y_test))
""", "{'train loss': mlp.loss_curve_[-1], 'train accuracy': mlp.score(X_train, y_train), 'test accuracy': mlp.score(X_test, y_test)}"),
    "out of core": Training(DIGITS + """
---
from sklearn.linear_model import SGDClassifier
clf = SGDClassifier(random_state=0)
history = []
for epoch in range(4):
    for start in range(0, len(X_train), 200):
        clf.partial_fit(X_train[start:start + 200], y_train[start:start + 200], classes=np.unique(y))
    history.append(clf.score(X_test, y_test))
    print(f"epoch {epoch}: {history[-1]:.4f}")
""", "{'test accuracy': history[-1]}"),
    "texts": Training("""
docs = ["good film", "bad film", "great plot", "awful plot", "good acting", "terrible acting", "great film", "bad acting"] * 10
labels = [1, 0, 1, 0, 1, 0, 1, 0] * 10
---
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn import metrics
vec = TfidfVectorizer()
Xtr = vec.fit_transform(docs[:60]); Xte = vec.transform(docs[60:])
nb = MultinomialNB().fit(Xtr, labels[:60])
pred = nb.predict(Xte)
print("f1:", metrics.f1_score(labels[60:], pred, average="macro"))
print("accuracy:", metrics.accuracy_score(labels[60:], pred))
""", "{'f1': metrics.f1_score(labels[60:], pred, average='macro'), 'accuracy': metrics.accuracy_score(labels[60:], pred)}"),
    "curve": Training("""
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import roc_auc_score, roc_curve, auc
from sklearn.model_selection import train_test_split
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X_tr, X_val, y_tr, y_val = train_test_split(X, y, stratify=y, random_state=0)
gb = GradientBoostingClassifier(n_estimators=20, random_state=0).fit(X_tr, y_tr)
---
probs = gb.predict_proba(X_val)[:, 1]
fpr, tpr, _ = roc_curve(y_val, probs)
print("AUC = %0.4f" % auc(fpr, tpr), roc_auc_score(y_val, probs))
""", "{'validation roc_auc': roc_auc_score(y_val, probs), 'train loss': gb.train_score_[-1]}"),
    "stack": Training(DIGITS + """
from sklearn.ensemble import StackingClassifier, VotingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
base = [("rf", RandomForestClassifier(10, random_state=0)), ("dt", DecisionTreeClassifier(random_state=0))]
stack = StackingClassifier(base, LogisticRegression(max_iter=500), cv=2).fit(X_train, y_train)
vote = VotingClassifier(base, voting="soft").fit(X_train, y_train)
print("stacking", stack.score(X_test, y_test), "voting", vote.score(X_test, y_test))
""", "{'test accuracy': stack.score(X_test, y_test), 'test accuracy/VotingClassifier': vote.score(X_test, y_test)}"),
    "histogram boosting": Training(HOUSES + """
from sklearn.ensemble import HistGradientBoostingRegressor
reg = HistGradientBoostingRegressor(max_iter=30, early_stopping=True, random_state=0)
reg.fit(train_df[features], train_df["target"])
---
from sklearn.metrics import root_mean_squared_error
print(reg.n_iter_, root_mean_squared_error(test_df["target"], reg.predict(test_df[features])))
""", "{'test root_mean_squared_error': root_mean_squared_error(test_df['target'], reg.predict(test_df[features])), 'validation score': reg.validation_score_[-1]}"),
    "folds by hand": Training("""
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import StratifiedKFold
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import accuracy_score
X, y = load_wine(return_X_y=True)
skf = StratifiedKFold(n_splits=4, shuffle=True, random_state=1)
accs = []
for fold, (train_idx, val_idx) in enumerate(skf.split(X, y)):
    m = LinearDiscriminantAnalysis()
    m.fit(X[train_idx], y[train_idx])
    p = m.predict(X[val_idx])
    accs.append(accuracy_score(y[val_idx], p))
    print(f"fold {fold}: {accs[-1]:.4f}")
print("mean", np.mean(accs))
""", "{'validation accuracy': accs[0]}"),
    "helper function": Training(DIGITS + """
---
from sklearn.metrics import accuracy_score, f1_score
def evaluate(model, X, y, name="model"):
    pred = model.predict(X)
    out = {"acc": accuracy_score(y, pred), "f1": f1_score(y, pred, average="weighted")}
    print(name, out)
    return out
---
from sklearn.svm import LinearSVC
svc = LinearSVC(random_state=0).fit(X_train, y_train)
res = evaluate(svc, X_test, y_test, "svc")
""", "{'test accuracy': res['acc'], 'test f1': res['f1']}"),
    "several scores": Training("""
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
X, y = load_breast_cancer(return_X_y=True)
cv = cross_validate(make_pipeline(StandardScaler(), LogisticRegression()), X, y, scoring=["accuracy", "roc_auc"], cv=3, return_train_score=True)
for k in ("test_accuracy", "test_roc_auc"):
    print(k, cv[k].mean())
""", "{'validation accuracy': cv['test_accuracy'].mean(), 'validation roc_auc': cv['test_roc_auc'].mean()}"),
    "own scorer": Training(HOUSES + """
from sklearn.metrics import make_scorer, get_scorer, mean_pinball_loss
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
s = cross_val_score(Ridge(), df[features], df.target, scoring="neg_mean_absolute_error", cv=3)
print(-s.mean())
---
model = Ridge().fit(train_df[features], train_df.target)
value = get_scorer("r2")(model, test_df[features], test_df.target)
value
""", "{'validation neg_mean_absolute_error': s.mean(), 'test r2/Ridge-2': value}"),
    "learning curve": Training(DIGITS + """
from sklearn.model_selection import learning_curve, validation_curve
from sklearn.naive_bayes import GaussianNB
sizes, train_scores, val_scores = learning_curve(GaussianNB(), X, y, cv=3, train_sizes=[0.3, 0.6, 1.0])
print(val_scores.mean(axis=1))
""", "{'validation accuracy': val_scores[-1].mean(), 'train accuracy': train_scores[-1].mean()}"),
    "predicted folds": Training(DIGITS + """
from sklearn.model_selection import cross_val_predict
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, matthews_corrcoef
from sklearn.tree import DecisionTreeClassifier
pred = cross_val_predict(DecisionTreeClassifier(max_depth=6, random_state=0), X, y, cv=3)
print(balanced_accuracy_score(y, pred), cohen_kappa_score(y, pred), matthews_corrcoef(y, pred))
""", "{'balanced_accuracy': balanced_accuracy_score(y, pred), 'cohen_kappa': cohen_kappa_score(y, pred), 'matthews_corrcoef': matthews_corrcoef(y, pred)}"),
    "outliers": Training("""
import numpy as np
from sklearn.cluster import DBSCAN
from sklearn.datasets import make_moons
from sklearn.metrics import adjusted_rand_score, v_measure_score
X, truth = make_moons(200, noise=0.05, random_state=0)
labels = DBSCAN(eps=0.2).fit_predict(X)
print(adjusted_rand_score(truth, labels), v_measure_score(truth, labels))
""", "{'adjusted_rand': adjusted_rand_score(truth, labels), 'v_measure': v_measure_score(truth, labels)}"),
    "precision and recall": Training("""
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import precision_recall_fscore_support, average_precision_score, brier_score_loss, log_loss
from sklearn.model_selection import train_test_split
X, y = make_classification(400, random_state=2)
xtrain, xtest, ytrain, ytest = train_test_split(X, y, random_state=2)
dummy = DummyClassifier().fit(xtrain, ytrain)
et = ExtraTreesClassifier(30, random_state=2).fit(xtrain, ytrain)
---
p, r, f, _ = precision_recall_fscore_support(ytest, et.predict(xtest), average="binary")
print(f"precision {p:.3f} recall {r:.3f} f1 {f:.3f}")
print(average_precision_score(ytest, et.predict_proba(xtest)[:, 1]), log_loss(ytest, et.predict_proba(xtest)))
""", "{'test precision/ExtraTreesClassifier': p, 'test recall/ExtraTreesClassifier': r, 'test average_precision/ExtraTreesClassifier': average_precision_score(ytest, et.predict_proba(xtest)[:, 1])}"),
}
KERAS = {
    "dense": Training(DIGITS + """
---
import keras
from keras import layers
keras.utils.set_random_seed(1)
model = keras.Sequential([layers.Input((64,)), layers.Dense(32, activation="relu"), layers.Dense(10, activation="softmax")])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.summary()
---
history = model.fit(X_train, y_train, batch_size=64, epochs=3, validation_data=(X_test, y_test))
---
score = model.evaluate(X_test, y_test, verbose=0)
print("Test loss:", score[0])
print("Test accuracy:", score[1])
""", "{'test accuracy': score[1], 'train loss': history.history['loss'][-1], 'validation accuracy': history.history['val_accuracy'][-1]}", ("keras", "tensorflow", "sklearn")),
    "early stopping": Training(DIGITS + """
import tensorflow as tf
tf.keras.utils.set_random_seed(2)
inputs = tf.keras.Input(shape=(64,))
h = tf.keras.layers.Dropout(0.2)(tf.keras.layers.Dense(32, "relu")(inputs))
net = tf.keras.Model(inputs, tf.keras.layers.Dense(10)(h), name="digits_net")
net.compile(tf.keras.optimizers.Adam(1e-2), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
callbacks = [tf.keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True), tf.keras.callbacks.ReduceLROnPlateau(patience=1)]
hist = net.fit(X_train, y_train, validation_split=0.2, epochs=4, callbacks=callbacks, verbose=2)
pd_hist = {k: [float(x) for x in v] for k, v in hist.history.items()}
pd_hist["val_loss"]
""", "{'validation loss': hist.history['val_loss'][-1], 'learning_rate': hist.history['learning_rate'][-1]}", ("tensorflow", "sklearn")),
    "data sets": Training(DIGITS + """
import tensorflow as tf
tf.keras.utils.set_random_seed(0)
train_ds = tf.data.Dataset.from_tensor_slices((X_train, y_train)).shuffle(500, seed=1).batch(32)
val_ds = tf.data.Dataset.from_tensor_slices((X_test, y_test)).batch(32)
model = tf.keras.models.Sequential([tf.keras.layers.Dense(16, activation="relu"), tf.keras.layers.Dense(10, activation="softmax")])
model.compile("sgd", "sparse_categorical_crossentropy", metrics=[tf.keras.metrics.SparseCategoricalAccuracy()])
h = model.fit(train_ds, validation_data=val_ds, epochs=2)
model.evaluate(val_ds, return_dict=True)
""", "{'train loss': h.history['loss'][-1], 'validation sparse_categorical_accuracy': h.history['val_sparse_categorical_accuracy'][-1]}", ("tensorflow", "sklearn")),
    "gradient tape": Training(DIGITS + """
import tensorflow as tf
tf.keras.utils.set_random_seed(0)
model = tf.keras.Sequential([tf.keras.layers.Dense(16, activation="relu"), tf.keras.layers.Dense(10)])
opt = tf.keras.optimizers.Adam()
loss_fn = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
train_loss = tf.keras.metrics.Mean(name="train_loss")
train_acc = tf.keras.metrics.SparseCategoricalAccuracy(name="train_accuracy")
@tf.function
def step(x, t):
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = loss_fn(t, logits)
    grads = tape.gradient(loss, model.trainable_variables)
    opt.apply_gradients(zip(grads, model.trainable_variables))
    train_loss(loss); train_acc(t, logits)
---
ds = tf.data.Dataset.from_tensor_slices((X_train, y_train)).batch(64)
losses = []
for epoch in range(3):
    train_loss.reset_state(); train_acc.reset_state()
    for x, t in ds:
        step(x, t)
    losses.append(float(train_loss.result()))
    print(f"Epoch {epoch + 1}, Loss: {train_loss.result():.4f}, Accuracy: {train_acc.result() * 100:.2f}")
""", "{'train loss': losses[-1], 'train accuracy': train_acc.result()}", ("tensorflow", "sklearn")),
    "own step": Training(DIGITS + """
import os
import keras, tensorflow as tf
keras.utils.set_random_seed(3)
class CustomModel(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}
i = keras.Input((64,))
m = CustomModel(i, keras.layers.Dense(10, activation="softmax")(i))
m.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
h = m.fit(X_train, y_train, epochs=2, verbose=2)
""", "{'train accuracy': h.history['accuracy'][-1]}", ("keras", "tensorflow", "sklearn")),
    "generator": Training(DIGITS + """
import keras
keras.utils.set_random_seed(0)
class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size=64):
        super().__init__()
        self.x, self.y, self.size = x, y, size
    def __len__(self):
        return len(self.x) // self.size
    def __getitem__(self, i):
        part = slice(i * self.size, (i + 1) * self.size)
        return self.x[part].reshape(-1, 8, 8, 1), self.y[part]
cnn = keras.Sequential([keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")], name="cnn")
cnn.compile("rmsprop", "sparse_categorical_crossentropy", metrics=["acc"])
h = cnn.fit(Batches(X_train, y_train), validation_data=Batches(X_test, y_test), epochs=2)
""", "{'train acc': h.history['acc'][-1], 'validation acc': h.history['val_acc'][-1]}", ("keras", "tensorflow", "sklearn")),
    "batches by hand": Training(DIGITS + """
import keras
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
for epoch in range(2):
    for start in range(0, len(X_train), 128):
        loss, acc = model.train_on_batch(X_train[start:start + 128], y_train[start:start + 128])
    print(epoch, loss, acc)
test_loss, test_acc = model.test_on_batch(X_test, y_test)
print("test", test_loss, test_acc)
""", "{'train loss': loss, 'test accuracy': test_acc}", ("keras", "tensorflow", "sklearn")),
    "two models": Training(DIGITS + """
from tensorflow.keras.models import Sequential
from tensorflow.keras.layers import Dense
from tensorflow.keras.utils import set_random_seed, to_categorical
set_random_seed(5)
Y_train, Y_test = to_categorical(y_train), to_categorical(y_test)
def build(units):
    m = Sequential([Dense(units, activation="relu"), Dense(10, activation="softmax")])
    m.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    return m
---
small, large = build(8), build(64)
h1 = small.fit(X_train, Y_train, epochs=2, verbose=0)
h2 = large.fit(X_train, Y_train, epochs=2, verbose=0)
---
for name, m in (("small", small), ("large", large)):
    print(name, m.evaluate(X_test, Y_test, verbose=0))
""", "{'train accuracy': h1.history['accuracy'][-1], 'train accuracy/fit-2': h2.history['accuracy'][-1], 'test accuracy': small.evaluate(X_test, Y_test, verbose=0)[1]}", ("tensorflow", "sklearn")),
    "fine tuning": Training(DIGITS + """
import keras
keras.utils.set_random_seed(0)
base = keras.Sequential([keras.layers.Dense(32, activation="relu")])
base.trainable = False
model = keras.Sequential([base, keras.layers.Dense(10, activation="softmax")])
model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
first = model.fit(X_train, y_train, epochs=2, verbose=0)
---
base.trainable = True
model.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
second = model.fit(X_train, y_train, epochs=4, initial_epoch=first.epoch[-1] + 1, verbose=0)
print(first.history["accuracy"] + second.history["accuracy"])
""", "{'train accuracy': first.history['accuracy'][-1], 'train accuracy/fit-2': second.history['accuracy'][-1]}", ("keras", "tensorflow", "sklearn")),
    "older Keras": Training(DIGITS + """
import tf_keras as keras
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
h = model.fit(X_train, y_train, epochs=2, validation_split=0.1, verbose=2)
loss, acc = model.evaluate(X_test, y_test)
print(f"{acc:.4f}")
""", "{'train loss': h.history['loss'][-1], 'validation accuracy': h.history['val_accuracy'][-1], 'test accuracy': acc}", ("tf_keras", "sklearn")),
    "older Keras in TensorFlow": Training(DIGITS + """
import os
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tensorflow as tf
tf.keras.utils.set_random_seed(0)
model = tf.keras.Sequential([tf.keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
h = model.fit(X_train, y_train, epochs=2, verbose=0)
h.history
""", "{'train loss': h.history['loss'][-1]}", ("tf_keras", "sklearn")),
    "autoencoder": Training(DIGITS + """
import keras
keras.utils.set_random_seed(0)
enc = keras.Sequential([keras.layers.Dense(8, activation="relu")], name="encoder")
dec = keras.Sequential([keras.layers.Dense(64, activation="sigmoid")], name="decoder")
x = keras.Input((64,))
auto = keras.Model(x, dec(enc(x)), name="autoencoder")
auto.compile("adam", "mse")
h = auto.fit(X_train, X_train, epochs=2, validation_data=(X_test, X_test), verbose=0)
auto.evaluate(X_test, X_test)
""", "{'train loss': h.history['loss'][-1], 'validation loss': h.history['val_loss'][-1]}", ("keras", "tensorflow", "sklearn")),
    "two outputs": Training(DIGITS + """
import keras
keras.utils.set_random_seed(0)
x = keras.Input((64,))
h = keras.layers.Dense(16, activation="relu")(x)
model = keras.Model(x, {"digit": keras.layers.Dense(10, activation="softmax", name="digit")(h), "odd": keras.layers.Dense(1, activation="sigmoid", name="odd")(h)})
model.compile("adam", loss={"digit": "sparse_categorical_crossentropy", "odd": "binary_crossentropy"}, metrics={"digit": ["accuracy"], "odd": ["accuracy"]})
hist = model.fit(X_train, {"digit": y_train, "odd": y_train % 2}, epochs=2, verbose=2)
result = model.evaluate(X_test, {"digit": y_test, "odd": y_test % 2}, return_dict=True, verbose=0)
print(result)
""", "{'train digit_accuracy': hist.history['digit_accuracy'][-1], 'test odd_accuracy': result['odd_accuracy']}", ("keras", "tensorflow", "sklearn")),
    "Keras on PyTorch": Training(DIGITS + """
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
h = model.fit(X_train, y_train, epochs=2, verbose=2)
print(model.evaluate(X_test, y_test, verbose=0))
""", "{'train loss': h.history['loss'][-1], 'test accuracy': model.evaluate(X_test, y_test, verbose=0)[1]}", ("keras", "torch", "sklearn")),
    "Keras on JAX": Training(DIGITS + """
%env KERAS_BACKEND=jax
import keras
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
h = model.fit(X_train, y_train, epochs=2, verbose=2, validation_split=0.2)
""", "{'train loss': h.history['loss'][-1], 'validation loss': h.history['val_loss'][-1]}", ("keras", "jax", "sklearn")),
    "tuner": Training(DIGITS + """
import keras, keras_tuner
keras.utils.set_random_seed(0)
def build(hp):
    m = keras.Sequential([keras.layers.Dense(hp.Int("units", 8, 32, step=8), activation="relu"), keras.layers.Dense(10, activation="softmax")])
    m.compile(keras.optimizers.Adam(hp.Choice("lr", [1e-2, 1e-3])), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return m
tuner = keras_tuner.RandomSearch(build, objective="val_accuracy", max_trials=3, seed=0, overwrite=True, directory="tuning")
tuner.search(X_train, y_train, epochs=2, validation_split=0.2, verbose=0)
---
best = tuner.get_best_hyperparameters()[0]
trial = tuner.oracle.get_best_trials()[0]
print(best.values, trial.score)
""", "{'validation best_accuracy': trial.score}", ("keras_tuner", "tensorflow", "sklearn")),
}
BOOSTING = {
    "boosted rounds": Training("""
import xgboost as xgb
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
dtrain, dtest = xgb.DMatrix(X_train, y_train), xgb.DMatrix(X_test, y_test)
evals_result = {}
bst = xgb.train({"objective": "binary:logistic", "eval_metric": ["auc", "logloss"], "nthread": 1}, dtrain, 8, evals=[(dtrain, "train"), (dtest, "eval")], evals_result=evals_result)
print(evals_result["eval"]["auc"][-1])
""", "{'train logloss': evals_result['train']['logloss'][-1], 'test auc': evals_result['eval']['auc'][-1]}", ("xgboost", "sklearn")),
    "boosted regression": Training(HOUSES + """
from xgboost import XGBRegressor
from sklearn.metrics import mean_squared_error
xgb = XGBRegressor(n_estimators=20, learning_rate=0.1, n_jobs=1)
xgb.fit(train_df[features], train_df.target)
pred = xgb.predict(test_df[features])
print("MSE:", mean_squared_error(test_df.target, pred), "R2", xgb.score(test_df[features], test_df.target))
""", "{'test mean_squared_error': mean_squared_error(test_df.target, pred), 'test r2': xgb.score(test_df[features], test_df.target)}", ("xgboost", "sklearn")),
    "boosted folds": Training("""
import xgboost as xgb
from sklearn.datasets import load_breast_cancer
X, y = load_breast_cancer(return_X_y=True)
cv = xgb.cv({"objective": "binary:logistic", "nthread": 1}, xgb.DMatrix(X, y), num_boost_round=6, nfold=3, metrics="auc", seed=0)
cv.tail(2)
""", "{'validation auc': cv['test-auc-mean'].iloc[-1], 'train auc': cv['train-auc-mean'].iloc[-1]}", ("xgboost", "sklearn")),
    "light rounds": Training("""
import lightgbm as lgb
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
X, y = load_diabetes(return_X_y=True)
X_tr, X_va, y_tr, y_va = train_test_split(X, y, random_state=0)
train_set = lgb.Dataset(X_tr, y_tr); valid_set = lgb.Dataset(X_va, y_va, reference=train_set)
result = {}
gbm = lgb.train({"objective": "regression", "metric": "rmse", "verbose": -1, "num_threads": 1, "deterministic": True}, train_set, 10, valid_sets=[train_set, valid_set], valid_names=["train", "valid"], callbacks=[lgb.record_evaluation(result), lgb.early_stopping(5, verbose=False)])
print(result["valid"]["rmse"][-1], gbm.best_iteration)
""", "{'validation rmse': result['valid']['rmse'][-1], 'train rmse': result['train']['rmse'][-1]}", ("lightgbm", "sklearn")),
    "light classifier": Training(DIGITS + """
from lightgbm import LGBMClassifier
from sklearn.metrics import accuracy_score
clf = LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1, random_state=0)
clf.fit(X_train, y_train)
print("LightGBM accuracy score: {0:0.4f}".format(accuracy_score(y_test, clf.predict(X_test))))
""", "{'test accuracy': accuracy_score(y_test, clf.predict(X_test))}", ("lightgbm", "sklearn")),
    "light folds": Training("""
import lightgbm as lgb
from sklearn.datasets import load_breast_cancer
X, y = load_breast_cancer(return_X_y=True)
res = lgb.cv({"objective": "binary", "metric": "auc", "verbose": -1, "num_threads": 1}, lgb.Dataset(X, y), 5, nfold=3, seed=0)
print(max(res["valid auc-mean"]))
""", "{'validation auc': res['valid auc-mean'][-1]}", ("lightgbm", "sklearn")),
    "cat regression": Training(HOUSES + """
from catboost import CatBoostRegressor, Pool
pool = Pool(train_df[features], train_df.target)
model = CatBoostRegressor(iterations=12, random_seed=0, thread_count=1, allow_writing_files=False, logging_level="Silent")
model.fit(pool, eval_set=Pool(test_df[features], test_df.target))
print(model.get_best_score())
model.score(test_df[features], test_df.target)
""", "{'train RMSE': model.get_evals_result()['learn']['RMSE'][-1], 'test r2': model.score(test_df[features], test_df.target)}", ("catboost", "sklearn")),
    "cat folds": Training("""
import catboost
from sklearn.datasets import load_breast_cancer
X, y = load_breast_cancer(return_X_y=True)
scores = catboost.cv(catboost.Pool(X, y), {"loss_function": "Logloss", "iterations": 6, "thread_count": 1, "allow_writing_files": False, "verbose": False}, fold_count=3, seed=0, logging_level="Silent")
scores.tail(1)
""", "{'validation Logloss': scores['test-Logloss-mean'].iloc[-1]}", ("catboost", "sklearn")),
}
TORCH_DATA = """
import warnings
warnings.simplefilter("ignore")
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(256, 8)
t = (x.sum(1) > 0).long()
train_dl = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[:192], t[:192]), 32)
val_dl = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[192:], t[192:]), 32)
"""
LIT = """
class Lit({base}.LightningModule):
    def __init__(self, lr=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    def forward(self, x):
        return self.net(x)
    def training_step(self, batch, i):
        x, t = batch
        loss = nn.functional.cross_entropy(self(x), t)
        self.log("train_loss", loss)
        return loss
    def validation_step(self, batch, i):
        x, t = batch
        out = self(x)
        self.log_dict({{"val_loss": nn.functional.cross_entropy(out, t), "val_acc": (out.argmax(1) == t).float().mean()}}, prog_bar=True)
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.hparams.lr)
"""
TORCH = {
    "lit": Training(TORCH_DATA + """
import logging
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
import pytorch_lightning as pl
""" + LIT.format(base="pl") + """
---
model = Lit()
trainer = pl.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", num_sanity_val_steps=0)
trainer.fit(model, train_dl, val_dl)
trainer.validate(model, val_dl, verbose=True)
""", "{'validation acc': trainer.callback_metrics['val_acc'], 'validation loss': trainer.callback_metrics['val_loss']}", ("pytorch_lightning",)),
    "lightning with a logger": Training(TORCH_DATA + """
import logging
for n in ("lightning.pytorch", "lightning.fabric"): logging.getLogger(n).setLevel(logging.ERROR)
import lightning as L
from lightning.pytorch.loggers import CSVLogger
""" + LIT.format(base="L") + """
model = Lit()
trainer = L.Trainer(max_epochs=2, logger=CSVLogger("logs", version=0), enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", log_every_n_steps=2)
trainer.fit(model, train_dl, val_dl)
print({k: round(float(v), 4) for k, v in trainer.callback_metrics.items()})
""", "{'validation acc': trainer.callback_metrics['val_acc'], 'train loss': trainer.callback_metrics['train_loss']}", ("lightning",)),
    "metric objects": Training(TORCH_DATA + """
import torchmetrics
model = nn.Linear(8, 2)
opt = torch.optim.SGD(model.parameters(), 0.1)
acc = torchmetrics.Accuracy(task="multiclass", num_classes=2)
for epoch in range(3):
    for xb, tb in train_dl:
        opt.zero_grad(); out = model(xb); loss = nn.functional.cross_entropy(out, tb); loss.backward(); opt.step()
        acc.update(out, tb)
    value = acc.compute(); print(f"Epoch {epoch}: {value:.3f}"); acc.reset()
""", "{'MulticlassAccuracy': value}", ("torchmetrics",)),
    "ignite": Training(TORCH_DATA + """
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Accuracy, Loss
model = nn.Linear(8, 2)
loss_fn = nn.CrossEntropyLoss()
trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), 0.1), loss_fn)
evaluator = create_supervised_evaluator(model, metrics={"accuracy": Accuracy(), "nll": Loss(loss_fn)})
@trainer.on(Events.EPOCH_COMPLETED)
def log_validation(engine):
    evaluator.run(val_dl)
    print(engine.state.epoch, evaluator.state.metrics)
trainer.run(train_dl, max_epochs=3);
""", "{'validation accuracy': evaluator.state.metrics['accuracy'], 'validation nll': evaluator.state.metrics['nll']}", ("ignite",)),
    "skorch": Training(TORCH_DATA + """
from skorch import NeuralNetClassifier
net = NeuralNetClassifier(nn.Sequential(nn.Linear(8, 2), nn.Softmax(-1)), max_epochs=3, lr=0.1, verbose=0)
net.fit(x.numpy(), t.numpy())
print(net.history[:, "valid_acc"])
---
print("train accuracy", net.score(x.numpy(), t.numpy()))
""", "{'train loss': net.history[-1, 'train_loss'], 'validation acc': net.history[-1, 'valid_acc']}", ("skorch",)),
    "trainer": Training("""
import os, warnings
warnings.simplefilter("ignore")
os.environ["DISABLE_MLFLOW_INTEGRATION"] = "true"
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed
import numpy as np
set_seed(42)
data = [{"input_ids": torch.randint(0, 50, (12,)), "labels": torch.tensor(i % 2)} for i in range(32)]
model = BertForSequenceClassification(BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))
def compute_metrics(p):
    return {"accuracy": float((np.argmax(p.predictions, -1) == p.label_ids).mean())}
args = TrainingArguments("out", num_train_epochs=2, per_device_train_batch_size=8, logging_steps=2, eval_strategy="epoch", save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True)
trainer = Trainer(model=model, args=args, train_dataset=data, eval_dataset=data, compute_metrics=compute_metrics)
trainer.train();
---
metrics = trainer.evaluate()
print(metrics["eval_accuracy"])
""", "{'validation accuracy': metrics['eval_accuracy'], 'validation loss': metrics['eval_loss']}", ("transformers", "accelerate"), False),
    "learner": Training(TORCH_DATA + """
from fastai.basics import DataLoaders, Learner, accuracy
from fastai.callback.schedule import *
from fastai.torch_core import set_seed
set_seed(0, True)
dls = DataLoaders.from_dsets(train_dl.dataset, val_dl.dataset, bs=32, shuffle=False, num_workers=0)
learn = Learner(dls, nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)), loss_func=nn.functional.cross_entropy, metrics=accuracy)
---
with learn.no_bar():
    learn.fit_one_cycle(2, 1e-2)
rows = [list(row) for row in learn.recorder.values]
print(rows)
---
loss, acc = learn.validate()
print(acc)
""", "{'train loss': rows[-1][0], 'validation accuracy': acc}", ("fastai",), False),
}
TRACKED = {
    "writer": Training(TORCH_DATA + """
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter("runs/a")
model = nn.Linear(8, 2); opt = torch.optim.Adam(model.parameters(), 0.01)
for epoch in range(3):
    total = 0.0
    for xb, tb in train_dl:
        loss = nn.functional.cross_entropy(model(xb), tb); opt.zero_grad(); loss.backward(); opt.step(); total += loss.item()
    writer.add_scalar("Loss/train", total / len(train_dl), epoch)
    with torch.no_grad():
        acc = (model(x[192:]).argmax(1) == t[192:]).float().mean()
    writer.add_scalar("Accuracy/val", acc, epoch)
    print(f"Epoch [{epoch + 1}/3] Loss: {total / len(train_dl):.4f} Val acc: {acc:.3f}")
writer.close()
""", "{'train Loss': total / len(train_dl), 'validation Accuracy': acc}", ("torch", "tensorboard")),
    "summaries": Training(DIGITS + """
import tensorflow as tf
tf.random.set_seed(0)
w = tf.Variable(tf.zeros((64, 10))); writer = tf.summary.create_file_writer("logs/train")
with writer.as_default():
    for step in range(4):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y_train, X_train @ w))
        w.assign_sub(0.5 * tape.gradient(loss, w))
        tf.summary.scalar("loss", loss, step=step)
        print(step, float(loss))
""", "{'loss': loss}", ("tensorflow", "sklearn")),
    "MLflow by hand": Training(TORCH_DATA + """
import logging, os
logging.disable()
if os.path.exists("mlflow.db"): os.remove("mlflow.db")
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
---
model = nn.Linear(8, 2); opt = torch.optim.SGD(model.parameters(), 0.1)
with mlflow.start_run():
    mlflow.log_params({"lr": 0.1})
    for epoch in range(3):
        for xb, tb in train_dl:
            loss = nn.functional.cross_entropy(model(xb), tb); opt.zero_grad(); loss.backward(); opt.step()
        mlflow.log_metric("train_loss", loss.item(), step=epoch)
        print(epoch, loss.item())
""", "{'train loss': loss.item()}", ("torch", "mlflow")),
    "MLflow by itself": Training(DIGITS + """
import logging, os, warnings
logging.disable(); warnings.simplefilter("ignore")
if os.path.exists("mlflow.db"): os.remove("mlflow.db")
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.autolog(log_models=False, silent=True)
from sklearn.linear_model import LogisticRegression
with mlflow.start_run():
    clf = LogisticRegression(max_iter=300).fit(X_train, y_train)
    acc = clf.score(X_test, y_test)
print(acc)
""", "{'test accuracy': acc}", ("sklearn", "mlflow")),
    "Weights & Biases": Training(TORCH_DATA + """
import os
os.environ["WANDB_MODE"] = "offline"; os.environ["WANDB_SILENT"] = "true"
import wandb
wandb.init(project="demo", config={"lr": 0.1, "epochs": 3})
model = nn.Linear(8, 2); opt = torch.optim.SGD(model.parameters(), wandb.config.lr)
for epoch in range(wandb.config.epochs):
    for xb, tb in train_dl:
        loss = nn.functional.cross_entropy(model(xb), tb); opt.zero_grad(); loss.backward(); opt.step()
    wandb.log({"epoch": epoch, "train": {"loss": loss.item()}, "val/acc": (model(x[192:]).argmax(1) == t[192:]).float().mean().item()})
    acc = (model(x[192:]).argmax(1) == t[192:]).float().mean().item()
    print(epoch, acc)
wandb.summary["best_acc"] = acc
wandb.finish()
""", "{'train loss': loss.item(), 'validation acc': acc}", ("torch", "wandb")),
    "trackio": Training(TORCH_DATA + """
import os
os.environ["TRACKIO_DIR"] = os.path.abspath("trackio")
import trackio as wandb
wandb.init(project="demo", name="a", embed=False)
model = nn.Linear(8, 2)
loss = nn.functional.cross_entropy(model(x), t).item()
wandb.log({"train_loss": loss})
wandb.finish()
""", "{'train loss': loss}", ("torch", "trackio"), False),
    "DVCLive": Training(DIGITS + """
import shutil, logging
shutil.rmtree(".dvc", ignore_errors=True); shutil.rmtree("dvclive", ignore_errors=True)
from dvclive import Live
from sklearn.linear_model import SGDClassifier
with Live(save_dvc_exp=False, report=None) as live:
    clf = SGDClassifier(random_state=0)
    for epoch in range(3):
        clf.partial_fit(X_train, y_train, classes=np.unique(y))
        live.log_metric("test/error", 1 - clf.score(X_test, y_test))
        live.next_step()
    error = 1 - clf.score(X_test, y_test)
print(error)
""", "{'test error': error}", ("sklearn", "dvclive")),
    "study": Training(DIGITS + """
import optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
from sklearn.svm import SVC
def objective(trial):
    c = trial.suggest_float("C", 1e-2, 1e2, log=True)
    return SVC(C=c).fit(X_train, y_train).score(X_test, y_test)
study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=4)
print("Best trial:", study.best_trial.number, study.best_value, study.best_params)
""", "{'best_objective': study.best_value}", ("optuna", "sklearn")),
    "asked and told": Training("""
import optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0))
for _ in range(4):
    trial = study.ask()
    v = trial.suggest_float("v", -1, 1)
    study.tell(trial, [v ** 2, (v - 1) ** 2])
print(len(study.best_trials), study.trials[-1].values)
""", "{'objective_0': study.trials[-1].values[0], 'objective_1': study.trials[-1].values[1]}", ("optuna",)),
}
STATISTICS = {
    "least squares": Training(HOUSES + """
import statsmodels.api as sm
ols = sm.OLS(train_df["target"], sm.add_constant(train_df[features])).fit()
print(ols.rsquared, ols.aic)
""", "{'train rsquared': ols.rsquared, 'train aic': ols.aic}", ("statsmodels", "sklearn")),
    "formula": Training(HOUSES + """
import statsmodels.formula.api as smf
logit = smf.logit("high ~ bmi + bp", data=df.assign(high=(df.target > 140).astype(int))).fit(disp=False)
print(logit.summary().tables[1])
logit.prsquared
""", "{'train aic': logit.aic, 'train llf': logit.llf}", ("statsmodels", "sklearn")),
}
TRAININGS = SKLEARN | KERAS | BOOSTING | TORCH | TRACKED | STATISTICS
