#!/bin/sh
# Under pytest 9.1 and later torch.export builds its structured trace, which nobody asked for, and takes longer.
#
# torch builds the records of its logger `torch.__trace` whenever that logger has a handler. It does not propagate, and
# pytest (from 9.1 on) attaches its capturing handler also to loggers that do not propagate. So every export in a test
# makes records of graphs, guards and stacks, which pytest keeps. `logging.getLogger("torch.__trace").propagate = True`
# before the test ends that.
#
# Seen with Python 3.11, pytest 9.2.0, torch 2.13.0 (CPU build), numpy 2.4.6: a small module exported in a test leaves
# some dozens of records of `torch.__trace`; with pytest 9.0.2 none; with 9.2.0 and propagation on, at most one or two,
# which torch's own handler lets through before it removes itself. Fails if any of the three changes.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

cat >"$folder/test_export.py" <<'END'
import logging
import os

import torch

logging.getLogger("torch.__trace").propagate = os.environ["PROPAGATE"] == "1"


def test_export(caplog):
    torch.export.export(torch.nn.GRUCell(3, 4), (torch.zeros(2, 3), torch.zeros(2, 4)))
    print("records", sum(record.name == "torch.__trace" for record in caplog.records))
END
records() {
    cd "$folder"
    PROPAGATE=$1 "$folder/venv/bin/python" -m pytest -q -s -p no:cacheprovider test_export.py | sed -n 's/^records //p'
}

pip install torch==2.13.0 numpy==2.4.6 pytest==9.2.0
new=$(records 0)
mended=$(records 1)
pip install pytest==9.0.2
old=$(records 0)
echo "pytest 9.2.0: $new records, with propagation: $mended; pytest 9.0.2: $old"
test "$new" -gt 10
test "$mended" -le 5
test "$old" -eq 0
echo "as described"
