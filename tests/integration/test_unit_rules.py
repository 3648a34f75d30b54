"""The unit tests pass where there is no torch, as on a device; a few examples of each property show that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT_TORCH = """
import sys
for name in ("torch", "lightning", "ncps", "matplotlib"):
    sys.modules[name] = None
import pytest

class FewExamples:
    def pytest_collection(self):
        import hypothesis
        class Few(hypothesis.settings):
            def __init__(self, *parent, **given):
                super().__init__(*parent, **given | {"max_examples": 5})
        hypothesis.settings = Few

sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/unit"], plugins=[FewExamples()]))
"""


@pytest.mark.slow
def test_the_unit_tests_pass_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
