"""What validation mends in the last layer: how sure a classifier is, and what it decides.

The temperature is one number that makes a classifier as sure of itself as it is right.

It divides the logits, so it changes no prediction, only how confident it is. A classifier that was
trained on few texts says 0.95 where it is right in 70%: a threshold on its confidence then keeps
nearly everything. So 02 and 05 fit the temperature on gold validation and put it into the last
layer (`calibrate`); what they save, and all that is predicted with it, is calibrated.

The decision bias is a number per class, added to the logits. The most likely class is what
maximises accuracy; macro-F1 counts a rare class as much as a frequent one, and gains where the rare
one is predicted more often. The probabilities are no longer calibrated then: it is a parameter.

References: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599; Lipton et
al. 2014, "Thresholding Classifiers to Maximize F1 Score", arXiv:1402.1892.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from torch import nn

from lib.metrics import macro_f1

LEAST = 1e-12  # a probability of 0 in float32 has no logarithm
BOUNDS = (0.5, 10.0)  # of what is put into a model: few validation texts can say nearly anything
BIASES = np.linspace(-1.5, 1.5, 31)  # what a logit may gain or lose; 1.5 is 4.5 times as likely


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities after their logits are divided by `temperature`: float64 [n, classes].

    Log-probabilities serve as logits: they differ from a model's own by a constant per text, which
    softmax ignores.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), LEAST))
    return softmax(logits / temperature, axis=1)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the lowest negative log-likelihood, between 1/20 and 20.

    The likelihood is convex in 1/temperature; a bound is returned where it has no minimum between
    them (every text is right, or too few).
    """
    rows = np.arange(len(labels))

    def loss(sharpness: float) -> float:
        scaled = with_temperature(probabilities, 1 / sharpness)
        return float(-np.log(np.maximum(scaled[rows, labels], LEAST)).mean())

    found = minimize_scalar(loss, bounds=(1 / 20, 20.0), method="bounded", options={"xatol": 1e-6})
    return float(1 / found.x)


def calibrate(layer: nn.Linear, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Divide the layer that gives the logits by the temperature that fits, and return it.

    It is kept within BOUNDS.

    Args:
        layer: changed in place; its predictions stay.
        probabilities: float [n, classes], that it gave for texts it was not trained on.
        labels: int [n].
    """
    temperature = float(np.clip(fit_temperature(probabilities, labels), *BOUNDS))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.div_(temperature)
    return temperature


def decide(layer: nn.Linear, probabilities: np.ndarray, labels: np.ndarray) -> list[float]:
    """Add to the bias of the layer that gives the logits what maximises macro-F1.

    Args:
        layer, probabilities, labels: as for `calibrate`.
    Returns:
        What was added to each class, the middle one 0.
    """
    bias = decision_bias(probabilities, labels)
    with torch.no_grad():
        layer.bias.add_(torch.from_numpy(bias).to(layer.bias))
    return bias.tolist()


def decision_bias(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The numbers on a grid that maximise macro-F1, float64 [classes]; of equal ones the smallest.

    A maximum on few texts is partly chance. So macro-F1 is averaged over the neighbours on the
    grid: a broad hill counts, a single peak does not.
    """
    logits = np.log(np.maximum(probabilities.astype(np.float64), LEAST))
    biases = np.array([(low, 0.0, high) for low in BIASES for high in BIASES])
    found = np.array([macro_f1(labels, (logits + bias).argmax(1)) for bias in biases])
    smooth = uniform_filter(found.reshape(len(BIASES), -1), size=5, mode="nearest").ravel()
    order = np.lexsort((np.linalg.norm(biases, axis=1), -smooth.round(9)))
    return biases[order[0]]
