#!/bin/sh
# tritonclient 2.41.0 does not name protobuf among the requirements of its extra `grpc`, though it imports it.
#
# Seen with Python 3.11, tritonclient 2.41.0, grpcio 1.85.3, numpy 2.4.6: after `pip install 'tritonclient[grpc]==2.41.0'`
# in an empty environment, `import tritonclient.grpc` ends with
#
#     RuntimeError: The installation does not include grpc support. Specify 'grpc' or 'all' while installing the
#     tritonclient package to include the support
#
# and after `pip install protobuf==7.36.2` it works. Fails if either changes.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet "$@" 2>/dev/null; }

pip install 'tritonclient[grpc]==2.41.0' grpcio==1.85.3 numpy==2.4.6
if said=$("$folder/venv/bin/python" -c 'import tritonclient.grpc' 2>&1); then
    echo "it imports without protobuf now"
    exit 1
fi
case $said in
*"The installation does not include grpc support"*) ;;
*) echo "it says something else: $said"; exit 1 ;;
esac

pip install protobuf==7.36.2
"$folder/venv/bin/python" -c 'import tritonclient.grpc'
echo "as described"
