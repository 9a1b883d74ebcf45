"""Files that are no model as it is read here, recognised, with how to convert them."""

import re

_RESAVE = 'booster.save_model("model.ubj")'
_PICKLE = (
    "this is a pickle, which can run any program when it is read. In the Python that made it: "
    "import pickle; model = pickle.load(open(FILE, 'rb')); "
    f"booster = model.get_booster() if hasattr(model, 'get_booster') else model; {_RESAVE} "
    "(one of joblib: joblib.load(FILE))"
)
_OLD = (
    "this is XGBoost's old binary form, which XGBoost 3.1 and later don't read. In a Python with an older one: "
    f"import xgboost; booster = xgboost.Booster(model_file=FILE); {_RESAVE}"
)
_DUMP = "this is a dump of trees for people, from which no model can be made again. Save it: " + _RESAVE


def other_form(data: bytes) -> str:
    """Say what a file is that begins as neither UBJ nor JSON."""
    if not data:
        return "the file is empty"
    # Pickle from protocol 2 on, and what joblib compresses it with.
    if (data[:1] == b"\x80" and data[1:2] <= b"\x05") or data[:2] in (b"x\x9c", b"x\x01", b"x\x5e", b"\x1f\x8b"):
        return _PICKLE
    if data[:4] in (b"binf", b"bs64") or re.search(rb"gbtree|gblinear|dart", data[:1024]):
        return _OLD
    if data[:7] == b"booster":
        return _DUMP
    return "neither UBJ nor JSON, the two forms in which XGBoost saves a model"
