"""The example's training as a plain Keras script: what `overhead.py` compares the notebook with."""
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

keras.utils.set_random_seed(0)
tf.config.experimental.enable_op_determinism()

digits = load_digits()
images, labels = (digits.images / 16).astype("float32")[..., None], digits.target.astype("int64")
train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
train_x, val_x, train_y, val_y = train_test_split(train_x, train_y, test_size=0.1, random_state=0, stratify=train_y)

inputs = keras.Input((8, 8, 1))
move = layers.RandomTranslation(0.1, 0.1, fill_mode="constant", fill_value=0.0)
features = inputs
for filters in (32, 64):
    for _ in range(2):
        features = layers.Conv2D(filters, 3, padding="same", use_bias=False)(features)
        features = layers.BatchNormalization(momentum=0.9)(features)
        features = layers.ReLU()(features)
    features = layers.MaxPooling2D()(features)
features = layers.Dropout(0.4)(layers.Flatten()(features))
model = keras.Sequential([inputs, move, keras.Model(inputs, layers.Dense(10)(features))])

begin, begin_cpu = time.perf_counter(), time.process_time()
steps = -(-len(train_y) // 32) * 20
model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.003, steps)),
              keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], jit_compile=False)
model.fit(train_x, train_y, batch_size=32, epochs=20, verbose=0, validation_data=(val_x, val_y), validation_batch_size=256)
print("fit_duration_s", time.perf_counter() - begin, "fit_cpu_s", time.process_time() - begin_cpu)

print("test accuracy", float((model.predict(test_x, verbose=0).argmax(axis=1) == test_y).mean()))
