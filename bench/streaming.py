"""`python -m bench.streaming INPUT MODEL OUTPUT`: what the system is measured against.

The quickest single process that streams a Parquet file through a model: nothing is checked, a wrong row would end it.
"""

import json
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost

BATCH_ROWS = 65_536
# So many rows of the matrix fit the processor's cache while they are filled column by column.
STEP_ROWS = 4_096
LABELS = pa.array(["no", "yes"])
SCHEMA = pa.schema([("probability", pa.float32()), ("label", pa.string())])


def run(source: str, model: str, output: str) -> tuple[float, int]:
    """Predict all rows and write probabilities and labels. Returns the seconds (without the imports) and the rows."""
    begun = time.perf_counter()
    booster = xgboost.Booster(model_file=model)
    booster.set_param({"device": "cpu", "nthread": 1})
    names = booster.feature_names
    file = pq.ParquetFile(source, pre_buffer=False)
    rows = 0
    with pq.ParquetWriter(output, SCHEMA, use_dictionary=["label"]) as writer:
        for batch in file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
            columns = [column.to_numpy() for column in batch.select(names).columns]
            matrix = np.empty((batch.num_rows, len(columns)), dtype=np.float32)
            for start in range(0, len(matrix), STEP_ROWS):
                for i, column in enumerate(columns):
                    matrix[start : start + STEP_ROWS, i] = column[start : start + STEP_ROWS]
            probability = booster.inplace_predict(matrix, validate_features=False)
            label = LABELS.take(pa.array((probability >= 0.5).astype(np.int8)))
            writer.write_batch(pa.record_batch([pa.array(probability), label], schema=SCHEMA))
            rows += batch.num_rows
    return time.perf_counter() - begun, rows


if __name__ == "__main__":
    before = time.process_time()
    seconds, rows = run(*sys.argv[1:])
    json.dump({"seconds": seconds, "cpu": time.process_time() - before, "rows": rows}, sys.stdout)
