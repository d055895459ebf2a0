"""Do tokens come from a model's softmax? Each step has a distribution of its own, so each token is turned into a number
that is uniform in [0, 1) if it does, whatever the distribution: the probabilities of all likelier tokens, and a random
part of its own [Rosenblatt, 1952]. Those are counted in equal bins and put to Pearson's chi-square test."""

import numpy as np

import reference


def uniforms(model, prompt, made, temperature):
    """Of each token in `made`, which followed `prompt`."""
    logits = model.run([*prompt, *made]).logits[len(prompt) - 1 : -1]
    return uniforms_of(logits, made, temperature)


def uniforms_of(logits, made, temperature):
    """Of each token in `made`, drawn with the logits of its row."""
    p = np.exp(reference.log_probabilities(logits, temperature))
    order = np.argsort(-p, axis=-1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=-1)
    rank = np.argmax(order == np.asarray(made)[:, None], axis=-1)
    rows = np.arange(len(made))
    before = np.cumsum(ranked, axis=-1)[rows, rank] - ranked[rows, rank]
    part = np.random.default_rng(len(made)).random(len(made))
    return np.clip(before + part * ranked[rows, rank], 0, np.nextafter(1, 0))


def is_sampled_from(uniform):
    """False is wrong once in about 30,000 times, and never for a sample that once passed: seeds are fixed."""
    bins = int(min(20, len(uniform) // 10))
    assert bins >= 3, "too few to tell"
    expected = len(uniform) / bins
    counts = np.bincount((np.asarray(uniform) * bins).astype(int), minlength=bins)
    statistic = float(np.sum((counts - expected) ** 2) / expected)
    freedom, deviations = bins - 1, 4.0  # Wilson and Hilferty: the cube root is nearly normal
    return statistic < freedom * (1 - 2 / (9 * freedom) + deviations * np.sqrt(2 / (9 * freedom))) ** 3
