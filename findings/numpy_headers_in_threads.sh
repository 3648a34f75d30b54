#!/bin/sh
# Threads of Python 3.11 that load arrays with numpy hinder each other: a good archive may end in SystemError.
#
# numpy.load parses the header of every array with ast.literal_eval. In Python 3.11 what makes Python's objects of a parsed
# expression counts its depth for the interpreter, not for the thread; where the garbage collector runs a finalizer in
# between, another thread may take its turn, and the counts of both are wrong: "AST constructor recursion depth mismatch".
# Reading once more succeeds. It is rare with the default switch interval; this script shortens the interval to see it in
# seconds. Python 3.10.13, 3.12.1 and 3.13.0 did not show it in ten seconds each.
#
# Seen with Python 3.11.7, numpy 2.4.6. Fails if two minutes of it bring no SystemError, or if reading once more does not
# give the array. It needs Python 3.11: name one in PYTHON where python3 is another.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install numpy==2.4.6

cat >"$folder/threads.py" <<'END'
import sys
import threading
import time
from io import BytesIO

import numpy as np

assert sys.version_info[:2] == (3, 11), f"this is Python {sys.version}; the finding is of 3.11"
file = BytesIO()
np.savez(file, **{f"a{k}": np.arange(12.0).reshape(3, 4) for k in range(8)})
content, errors, unequal = file.getvalue(), [], []
latest = time.monotonic() + 120


class Circle:
    """Garbage with a finalizer, as tasks and connections leave it."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        time.sleep(0)


def read():
    while not errors and time.monotonic() < latest:
        Circle()
        with np.load(BytesIO(content)) as archive:
            for name in archive.files:
                try:
                    array = archive[name]
                except SystemError as error:
                    errors.append(str(error))
                    array = archive[name]
                if array.tolist() != np.arange(12.0).reshape(3, 4).tolist():
                    unequal.append(name)


sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(errors[:1], unequal)
assert errors and "recursion depth mismatch" in errors[0] and not unequal
END
"$folder/venv/bin/python" "$folder/threads.py"
echo "as described"
