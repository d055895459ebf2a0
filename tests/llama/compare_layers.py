#!/usr/bin/env python3
"""Where disco-llama and the reference part: compares the activations of a prompt, layer by layer.

    disco-llama --model MODEL --prompt TEXT --max-tokens 0 --precision exact --trace FOLDER
    compare_layers.py MODEL FOLDER [--tolerance 1e-3]

Names the first stage that differs by more than the tolerance and exits with 1; or prints the largest difference of
each kind of stage and exits with 0. What differs in one stage makes all later ones differ, so the first is the culprit.

The tolerance is absolute for logits, and for elements of activations up to 1; beyond, it is relative: the residual
stream of SmolLM2 reaches 22,000 at the first token, where neighbouring float32 numbers are 0.002 apart.
"""

import argparse
import pathlib
import sys

import numpy as np

import reference


def stage_name(stage, layers):
    if stage == 0:
        return "embeddings"
    if stage > 2 * layers:
        return ["final norm", "logits"][stage - 2 * layers - 1]
    return f"layer {(stage - 1) // 2}, after {'feed-forward' if stage % 2 == 0 else 'attention'}"


def kind_of(stage, layers):
    return stage_name(stage, layers).split(", ")[-1]


def differences(got, expected):
    """Their absolute values; what is not a number differs infinitely from all but itself."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(got.astype(np.float64) - expected)
    difference[(got == expected) | (np.isnan(got) & np.isnan(expected))] = 0
    return np.nan_to_num(difference, nan=np.inf, posinf=np.inf)


def pairs(trace, result):
    """(got, expected, what a tolerance of 1 allows) of each stage: the activations, then the logits."""
    for got, expected in zip(trace.activations, result.activations):
        yield got, expected, np.maximum(1, np.abs(expected))
    yield trace.logits, result.logits, np.ones_like(result.logits)


def first_difference(trace, result, tolerance):
    """A sentence about the first stage that differs by more than the tolerance, or None."""
    layers = len(result.activations) // 2 - 1
    for stage, (got, expected, allowed) in enumerate(pairs(trace, result)):
        difference = differences(got, expected)
        wrong = difference > tolerance * allowed
        if wrong.any():
            token, element = (int(i) for i in np.argwhere(wrong)[0])
            return (
                f"{stage_name(stage, layers)}: token {token}, element {element}: {got[token, element]:.7g} instead of "
                f"{expected[token, element]:.7g} (largest difference of this stage {difference.max():.3g}, "
                f"{wrong.sum()} of {wrong.size} elements differ by more than {tolerance:g})"
            )
    return None


def largest_differences(trace, result):
    """{kind of stage: the largest of: difference, difference as the tolerance counts it, value of the reference}"""
    layers, largest = len(result.activations) // 2 - 1, {}
    for stage, (got, expected, allowed) in enumerate(pairs(trace, result)):
        difference = differences(got, expected)
        found = [float(x.max(initial=0)) for x in (difference, difference / allowed, np.abs(expected))]
        kind = kind_of(stage, layers)
        largest[kind] = tuple(map(max, found, largest.get(kind, (0.0, 0.0, 0.0))))
    return largest


def read_trace(folder):
    """(tokens, Pass)"""
    folder = pathlib.Path(folder)
    tokens, activations, logits = (np.load(folder / f"{name}.npy") for name in ("tokens", "activations", "logits"))
    arrays = {"tokens": (tokens, "i4"), "activations": (activations, "f4"), "logits": (logits, "f4")}
    for name, (array, dtype) in arrays.items():
        if array.dtype != np.dtype(dtype):
            raise ValueError(f"{folder / name}.npy: {array.dtype} instead of {np.dtype(dtype)}")
    return tokens.tolist(), reference.Pass(activations, logits)


def compare(model, folder, tolerance):
    """(the first difference or None, the largest differences) of a trace and a reference.Model."""
    tokens, trace = read_trace(folder)
    result = model.run(tokens)
    for name in ("activations", "logits"):
        got, expected = getattr(trace, name).shape, getattr(result, name).shape
        if got != expected:
            raise ValueError(f"{folder}/{name}.npy: shape {got} instead of {expected}")
    return first_difference(trace, result, tolerance), largest_differences(trace, result)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("trace", help="the folder of `disco-llama --trace`")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="absolute, per element (default: 1e-3)")
    arguments = parser.parse_args()
    try:
        first, largest = compare(reference.Model(arguments.model), arguments.trace, arguments.tolerance)
    except (ValueError, OSError) as error:
        print(f"compare_layers.py: {error}", file=sys.stderr)
        return 2
    if first:
        print(first)
        return 1
    for kind, (difference, counted, value) in largest.items():
        relative = f", {counted:.2g} by the tolerance's measure" if counted < difference else ""
        print(f"{kind + ':':20} largest difference {difference:.2g} of values up to {value:.4g}{relative}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
