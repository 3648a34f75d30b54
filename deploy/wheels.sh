#!/usr/bin/env bash
# Wheels with what setup.py compiles, for Linux with glibc 2.17 or later, on x86-64 and aarch64: one for Python 3.10, and one by
# the stable ABI for 3.11 and later. They land in build/wheels. ziglang's compiler has the symbols of old glibc and of both
# processors; nghttp2 comes from Debian's source package, with its security updates, and becomes part of the extension.
#
#   wheels.sh [PROCESSOR…]      x86_64 and aarch64, if none is named
#
# UV names the uv that makes environments. It needs apt-get, dpkg-dev, make, and Pythons with their headers.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly GLIBC=2.17 UV=${UV:-build/venv/bin/uv}
readonly OUT=$PWD/build/wheels WORK=$PWD/build/wheels/work
readonly FLAGS="-O2 -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections -DNGHTTP2_STATICLIB"
readonly LINKED="-Wl,--gc-sections -Wl,--version-script=$WORK/exports"
export ZIG_GLOBAL_CACHE_DIR=$WORK/cache ZIG_LOCAL_CACHE_DIR=$WORK/cache

main() {
    [ $# -gt 0 ] || set -- x86_64 aarch64
    mkdir -p "$WORK"
    rm -f "$OUT"/*.whl
    # The C++ library is part of an extension, and would be seen from outside. onnxruntime calls
    # RegisterCustomOps, which one of them has: the linker wants a pattern for that.
    echo '{ global: PyInit_*; RegisterCustomOp*; local: *; };' >"$WORK/exports"
    fetch_zig
    fetch_nghttp2
    local processor
    for processor in "$@"; do
        build_nghttp2 "$processor"
        build_wheel "$processor" 3.10 ".cpython-310-$processor-linux-gnu.so" ""
        build_wheel "$processor" ">=3.11" .abi3.so --py-limited-api=cp311
    done
}

fetch_zig() {
    local python=$WORK/zig/bin/python
    [ -x "$python" ] || "$UV" venv --quiet "$WORK/zig"
    "$UV" pip install --quiet --python "$python" --constraint constraints.txt ziglang
    zig=$("$python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')
}

# By apt, which verifies it, with lists of its own.
fetch_nghttp2() {
    local apt=$WORK/apt get keys
    if ! compgen -G "$apt/nghttp2-*/COPYING" >/dev/null; then
        rm -rf "$apt"
        mkdir -p "$apt/lists/partial"
        for keys in /usr/share/keyrings/{debian,ubuntu}-archive-keyring.gpg; do [ ! -f "$keys" ] || break; done
        # shellcheck disable=SC2016  # apt's variables
        apt-get indextargets --format '$(LABEL): $(REPO_URI) $(RELEASE) main' 'Created-By: Packages' 'Component: main' |
            sed -n -E "s,^(Debian|Debian-Security|Ubuntu): ,deb-src [signed-by=$keys] ,p" >"$apt/sources.list"
        [ -s "$apt/sources.list" ] || die "apt knows no Debian: run apt-get update"
        get=(apt-get -qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
            -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt" -o APT::Sandbox::User=root)
        "${get[@]}" update
        (cd "$apt" && "${get[@]}" source nghttp2 >/dev/null)
    fi
    nghttp2=$(echo "$apt"/nghttp2-*[0-9])
    version=${nghttp2##*-}
}

# Its sources compile without its configure script, which Debian's package does not have.
build_nghttp2() {
    local folder=$WORK/nghttp2-$1
    rm -rf "$folder"
    mkdir -p "$folder"/{include,lib,objects}
    cp -r "$nghttp2/lib/includes/nghttp2" "$folder/include"
    # shellcheck disable=SC2086  # words of their own
    sed "s/@PACKAGE_VERSION@/$version/; s/@PACKAGE_VERSION_NUM@/$(printf '0x%02x%02x%02x' ${version//./ })/" \
        "$nghttp2/lib/includes/nghttp2/nghttp2ver.h.in" >"$folder/include/nghttp2/nghttp2ver.h"
    # shellcheck disable=SC2086  # words of their own
    (cd "$folder/objects" && "$zig" cc -target "$1-linux-gnu.$GLIBC" $FLAGS -DNDEBUG -DHAVE_ARPA_INET_H -DHAVE_NETINET_IN_H \
        -DHAVE_TIME_H -DHAVE_CLOCK_GETTIME -I"$folder/include" -c "$nghttp2"/lib/*.c)
    "$zig" ar rcs "$folder/lib/libnghttp2.a" "$folder"/objects/*.o
}

# PROCESSOR PYTHON SUFFIX OPTION: from a copy of the checkout, since setuptools would take what was compiled before.
build_wheel() {
    local folder=$WORK/nghttp2-$1 copy=$WORK/copy cxx python
    if ! python=$("$UV" python find --no-python-downloads "$2" 2>/dev/null); then
        echo "wheels.sh: Python $2 is not here, so its wheel for $1 is not built" >&2
        return
    fi
    rm -rf "$copy"
    mkdir -p "$copy"
    git ls-files -coz --exclude-standard | xargs -0 cp --parents -t "$copy"
    cp "$nghttp2/COPYING" "$copy/LICENSE.nghttp2"
    cxx="$zig c++ -target $1-linux-gnu.$GLIBC -I$folder/include -L$folder/lib"
    CC=${cxx/zig c++/zig cc} CXX=$cxx CFLAGS=$FLAGS LDSHARED="$cxx -shared" LDCXXSHARED="$cxx -shared $LINKED" \
        SETUPTOOLS_EXT_SUFFIX=$3 "$UV" build --quiet --wheel --python "$python" --out-dir "$OUT" \
        --config-setting="--build-option=--plat-name=manylinux2014_$1 $4" "$copy"
}

die() { echo "wheels.sh: $*" >&2 && exit 1; }

main "$@"
