"""Reads a model file without XGBoost, and checks that it is sound.

XGBoost's native loader trusts the file, and one in ten damaged ones kills the process that loads it. So nothing goes
there that wasn't read here before, in Python, with every length and index checked.
"""

import json
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from workers.model_file import ModelFile, Version, ubjson
from workers.model_file.forms import other_form
from workers.model_file.parts import ModelFileError, Node
from workers.model_file.trees import check_trees

# Which kind of output an objective is for.
_KINDS = {"binary": "binary", "multi": "multiclass", "reg": "regression", "count": "regression"} | {
    "rank": "ranking",
    "survival": "survival",
}
_MAX_FEATURES = 10_000
_MAX_WIDTH = 10_000


def read_model(data: bytes) -> ModelFile:
    """Read a model file of XGBoost, UBJ or JSON, and check all of it. Raises ModelFileError with the reason."""
    if data[:1] != b"{":
        raise ModelFileError(other_form(data))
    form = "json" if data[1:2] in (b'"', b" ", b"\n", b"\r", b"\t") else "ubj"
    try:
        document = _from_json(data) if form == "json" else ubjson.loads(data)
    except ubjson.UbjsonError as error:
        raise ModelFileError(f"not a sound UBJ file: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"not a sound JSON file: {error}") from error
    if not isinstance(document, dict) or "learner" not in document:
        raise ModelFileError("not a model of XGBoost: it has no learner")
    try:
        return _model(form, Node(document))
    except MemoryError as error:
        raise ModelFileError("the file needs more memory than there is") from error


def _model(form: str, root: Node) -> ModelFile:
    saved_by = _version(root)
    learner = root.node("learner")
    param = learner.node("learner_model_param")
    features = param.count("num_feature", 1, _MAX_FEATURES)
    objective = learner.node("objective").text("name")
    family = objective.partition(":")[0]
    if family not in _KINDS or ":" not in objective:
        raise learner.error("objective.name", f"{objective[:80]!r} is none that is served here")
    classes = param.count("num_class", 0, _MAX_WIDTH)
    targets = param.count("num_target", 1, _MAX_WIDTH, default=1)
    if (classes > 1) != (family == "multi") or min(classes, targets) > 1:
        raise param.error("num_class", f"{objective} with {classes} classes and {targets} targets")
    groups = max(classes, targets)
    _check_objective(learner.node("objective"), classes)
    _check_base_score(param, groups)
    names, types = learner.texts("feature_names"), learner.texts("feature_types")
    for key, found in (("feature_names", names), ("feature_types", types)):
        if found and len(found) != features:
            raise learner.error(key, f"expected {features}, got {len(found)}")
    booster = learner.node("gradient_booster")
    kind = _KINDS[family]
    if family == "binary" and targets > 1:
        kind = "regression"
    elif classes == 2:
        kind = "binary"
    rounds, codes = _check_booster(booster, features, groups)
    return ModelFile(
        format=form,
        version=saved_by,
        objective=objective,
        booster=booster.text("name"),
        rounds=rounds,
        best_iteration=_best_iteration(learner, rounds),
        features=features,
        feature_names=names,
        feature_types=types,
        categories=_categories(booster, features),
        codes=codes,
        kind=kind,
        width=1 if kind == "binary" else groups,
        quantiles=_quantiles(learner.node("objective"), targets),
    )


def _version(root: Node) -> Version:
    """Return the version of the XGBoost that saved the file. Raises ModelFileError if it's newer than the one here."""
    major, minor, patch = (int(part) for part in root.whole("version", 3))
    here = runtime_version()
    if (major, minor, patch) > here:
        raise ModelFileError(
            f"saved by XGBoost {major}.{minor}.{patch}, newer than {'.'.join(map(str, here))} which runs here; "
            "save it with that one, or upgrade the workers first"
        )
    if major < 1:
        raise root.error("version", "expected 1.0 or later")
    return major, minor, patch


@cache
def runtime_version() -> Version:
    """Return the version of the XGBoost that is installed, without importing it."""
    for package in ("xgboost-cpu", "xgboost"):
        try:
            major, minor, patch = (int(part) for part in re.findall(r"[0-9]+", version(package))[:3])
        except PackageNotFoundError:
            continue
        return major, minor, patch
    raise ModelFileError("XGBoost is not installed here")


def _check_objective(objective: Node, classes: int) -> None:
    for key in objective.data:
        if key != "name" and not all(isinstance(value, str) for value in objective.node(key).data.values()):
            raise objective.error(key, "expected texts")
    if classes and "softmax_multiclass_param" in objective:
        objective.node("softmax_multiclass_param").count("num_class", classes, classes)


def _quantiles(objective: Node, targets: int) -> tuple[float, ...]:
    if objective.text("name") != "reg:quantileerror":
        return ()
    found = _numbers(objective.node("quantile_loss_param"), "quantile_alpha")
    if len(found) != targets or not all(0 <= each <= 1 for each in found):
        raise objective.error("quantile_loss_param.quantile_alpha", f"expected {targets} numbers from 0 to 1")
    return found


def _check_base_score(param: Node, groups: int) -> None:
    if len(_numbers(param, "base_score")) not in (1, groups):
        raise param.error("base_score", f"expected 1 number or {groups}")


def _numbers(node: Node, key: str) -> tuple[float, ...]:
    """Return the numbers of a text such as `[1E-1,5E-1]`, or `5E-1` as it was before XGBoost 3.1."""
    text = node.text(key)
    inner = text[1:-1] if text[:1] + text[-1:] in ("[]", "()") else text
    try:
        found = tuple(float(each) for each in inner.split(","))
    except ValueError as error:
        raise node.error(key, "expected numbers") from error
    if not np.isfinite(found).all():
        raise node.error(key, "expected finite numbers")
    return found


def _best_iteration(learner: Node, rounds: int) -> int | None:
    if "attributes" not in learner:
        return None
    attributes = learner.node("attributes")
    if not all(isinstance(value, str) for value in attributes.data.values()):
        raise learner.error("attributes", "expected texts")
    return attributes.count("best_iteration", 0, rounds - 1) if "best_iteration" in attributes else None


def _check_booster(booster: Node, features: int, groups: int) -> tuple[int, dict[int, int]]:
    """Check the trees or weights. Returns the number of rounds, and the largest category by feature."""
    name = booster.text("name")
    if name == "gblinear":
        model = booster.node("model")
        model.floats("weights", (features + 1) * groups)
        rounds = model.data.get("boosted_rounds", 0)
        if not isinstance(rounds, int) or not 0 <= rounds <= 2**31:
            raise model.error("boosted_rounds", "expected a whole number")
        return rounds, {}
    if name not in ("gbtree", "dart"):
        raise booster.error("name", f"{name[:80]!r} is none of gbtree, dart, gblinear")
    model = _tree_model(booster)
    trees = model.nodes("trees")
    param = model.node("gbtree_model_param")
    param.count("num_trees", len(trees), len(trees))
    parallel = param.count("num_parallel_tree", 1, default=1)
    if name == "dart":
        booster.floats("weight_drop", len(trees))
    info = model.whole("tree_info", len(trees))
    if ((info < 0) | (info >= groups)).any():
        raise model.error("tree_info", f"expected 0 to {groups - 1}")
    if "iteration_indptr" in model:
        ends = model.whole("iteration_indptr")
        if not len(ends) or ends[0] != 0 or ends[-1] != len(trees) or (np.diff(ends) < 0).any():
            raise model.error("iteration_indptr", f"expected numbers that rise from 0 to {len(trees)}")
        rounds = len(ends) - 1
    else:
        rounds = len(trees) // (groups * parallel)
    return rounds, check_trees(trees, features, groups)


def _tree_model(booster: Node) -> Node:
    return (booster.node("gbtree") if booster.text("name") == "dart" else booster).node("model")


def _categories(booster: Node, features: int) -> dict[int, tuple[str, ...]]:
    """Return the texts of the categories that training's data frame had, by feature."""
    if booster.text("name") == "gblinear" or "cats" not in (model := _tree_model(booster)):
        return {}
    cats = model.node("cats")
    encodings = cats.nodes("enc")
    if not encodings:
        return {}
    if len(encodings) != features:
        raise cats.error("enc", f"expected one for each of {features} features")
    found, counts = {}, []
    for feature, encoding in enumerate(encodings):
        values = encoding.whole("values")
        if "offsets" not in encoding:
            counts.append(len(values))
            found[feature] = tuple(str(value) for value in values)
            continue
        offsets = encoding.whole("offsets")
        counts.append(max(0, len(offsets) - 1))
        if not len(offsets) and not len(values):
            continue
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
            raise encoding.error("offsets", f"expected numbers that rise from 0 to {len(values)}")
        if not ((values >= -128) & (values < 256)).all():
            raise encoding.error("values", "expected bytes")
        raw = values.astype(np.uint8).tobytes()
        found[feature] = tuple(
            raw[begin:end].decode(errors="replace") for begin, end in zip(offsets, offsets[1:], strict=False)
        )
    if not np.array_equal(cats.whole("feature_segments"), np.cumsum([0, *counts])):
        raise cats.error("feature_segments", "expected where each feature's categories begin")
    places = cats.whole("sorted_idx", sum(counts))
    for begin, count in zip(np.cumsum([0, *counts]), counts, strict=False):
        if not np.array_equal(np.sort(places[begin : begin + count]), np.arange(count)):
            raise cats.error("sorted_idx", "expected each of a feature's categories once")
    return {feature: texts for feature, texts in found.items() if texts}


def _from_json(data: bytes) -> Any:
    return json.loads(data.decode(), object_pairs_hook=_without_doubles)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found
