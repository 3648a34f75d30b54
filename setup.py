"""The extension modules: part of the build where a C++ compiler is found, and nghttp2 for the native transport.

Elsewhere the wheel is pure Python. `STATESTREAM_NATIVE=0` makes such a wheel anywhere.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig

from setuptools import Extension, setup

ENGINE, TRANSPORT = "service/engine/native", "service/transports/native"


def can_build(*headers: str) -> bool:
    """Whether the compiler is there and finds the headers."""
    if sys.platform != "linux" or os.environ.get("STATESTREAM_NATIVE") == "0":
        return False
    compiler = shlex.split(os.environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++")
    include = "".join(f"#include <{header}>\n" for header in headers)
    command = [*compiler, "-E", "-x", "c++", f"-I{sysconfig.get_paths()['include']}", "-"]
    try:
        return subprocess.run(command, input=include.encode(), capture_output=True).returncode == 0
    except OSError:
        return False


def extension(folder: str, sources: tuple[str, ...], headers: tuple[str, ...], libraries: tuple[str, ...]) -> Extension:
    """The module `_core` of a folder."""
    return Extension(
        f"statestream.{folder.replace('/', '.')}._core",
        sources=[f"{folder}/{name}.cpp" for name in sources],
        depends=[*(f"{folder}/{name}.hpp" for name in headers), f"{ENGINE}/python.hpp"],
        include_dirs=["."],
        libraries=list(libraries),
        extra_compile_args=["-std=c++17", "-O2", "-fvisibility=hidden"],
        extra_link_args=["-s"],
        optional=True,
        language="c++",
    )


modules = []
if can_build("Python.h"):
    headers = ("graph", "runtime", "session", "turns")
    modules.append(extension(ENGINE, ("graph", "module", "session", "turns"), headers, ()))
if can_build("Python.h", "nghttp2/nghttp2.h"):
    sources = ("applied_rows", "client_call", "connection", "framing", "results", "rows")
    modules.append(extension(TRANSPORT, (*sources, "module"), (*sources, "wire"), ("nghttp2",)))
setup(ext_modules=modules)
