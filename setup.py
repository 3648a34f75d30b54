"""The native transport's extension module: part of the build where a C++ compiler and nghttp2 are found.

Elsewhere the wheel is pure Python, and gRPC's library serves. `STATESTREAM_NATIVE=0` makes such a wheel anywhere.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig

from setuptools import Extension, setup

FOLDER = "service/transports/native"
SOURCES = ("connection", "module", "results", "rows")
HEADERS = ("nghttp2/nghttp2.h", "Python.h")


def can_build() -> bool:
    """Whether the compiler is there and finds the headers."""
    if sys.platform != "linux" or os.environ.get("STATESTREAM_NATIVE") == "0":
        return False
    compiler = shlex.split(os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++")
    include = "".join(f"#include <{header}>\n" for header in HEADERS)
    command = [*compiler, "-E", "-x", "c++", f"-I{sysconfig.get_paths()['include']}", "-"]
    try:
        return subprocess.run(command, input=include.encode(), capture_output=True).returncode == 0
    except OSError:
        return False


extension = Extension(
    "statestream.service.transports.native._core",
    sources=[f"{FOLDER}/{name}.cpp" for name in SOURCES],
    depends=[f"{FOLDER}/{name}.hpp" for name in SOURCES if name != "module"],
    libraries=["nghttp2"],
    extra_compile_args=["-std=c++17", "-O2", "-fvisibility=hidden"],
    extra_link_args=["-s"],
    optional=True,
    language="c++",
)
setup(ext_modules=[extension] if can_build() else [])
