"""Joins the JSON of several benchmarks into one of the same shape.

  merge_bench.py OUT.json PART.json...

Each row keeps its fields; "row" gains the benchmark's name in front.
"""

import json
import sys


def main(out, parts):
    merged = {"bench": "all", "machine": {}, "rows": []}
    for path in parts:
        with open(path, encoding="utf-8") as f:
            part = json.load(f)
        merged["machine"] = merged["machine"] or part["machine"]
        for row in part["rows"]:
            merged["rows"].append(
                dict(row, row=f"{part['bench']}: {row['row']}"))
    with open(out, "w", encoding="utf-8") as f:
        json.dump(merged, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
