#!/bin/sh
# Threads of Python 3.11 that load arrays with numpy hinder each other: a good archive may end in SystemError.
#
# numpy.load parses the header of every array with ast.literal_eval. In Python 3.11 what makes Python's objects of a parsed
# expression counts its depth for the interpreter, not for the thread; where the garbage collector runs Python code in
# between, another thread may take its turn, and the counts of both are wrong: "AST constructor recursion depth mismatch".
# Reading alone once more succeeds. It is rare; this script has the collector run often and give other threads their turn.
# Python 3.10.13, 3.12.1 and 3.13.0 did not show it in ten seconds each, with a shorter switch interval instead.
#
# Seen with Python 3.11.7, numpy 2.4.6. Fails if two minutes of it bring no SystemError, or if reading alone does not
# give the arrays. It needs Python 3.11: name one in PYTHON where python3 is another.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install numpy==2.4.6

cat >"$folder/threads.py" <<'END'
import gc
import sys
import threading
import time
from io import BytesIO

import numpy as np

assert sys.version_info[:2] == (3, 11), f"this is Python {sys.version}; the finding is of 3.11"
file = BytesIO()
np.savez(file, **{f"a{k}": np.arange(12.0).reshape(3, 4) for k in range(8)})
content, errors = file.getvalue(), []
latest = time.monotonic() + 120


def read():
    while not errors and time.monotonic() < latest:
        try:
            all_of(content)
        except SystemError as error:
            errors.append(str(error))


def all_of(content):
    with np.load(BytesIO(content)) as archive:
        return [archive[name].tolist() for name in archive.files]


# As finalizers of tasks and connections do, now and then.
gc.callbacks.append(lambda phase, info: time.sleep(0))
gc.set_threshold(50)
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(errors[:1])
assert errors and "recursion depth mismatch" in errors[0]
assert all_of(content) == [np.arange(12.0).reshape(3, 4).tolist()] * 8
END
"$folder/venv/bin/python" "$folder/threads.py"
echo "as described"
