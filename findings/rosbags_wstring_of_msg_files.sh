#!/bin/sh
# rosbags 0.11.9 takes the type wstring of a .msg file for a message of the file's own package, and raises no error.
#
# wstring is a type of ROS 2's .msg files since Dashing, and one of the library's own base types: of an .idl file it is read. Of
# a .msg file the field becomes a message `PACKAGE/msg/wstring`, which has no definition, so that a message fails later.
#
# Seen with Python 3.11, rosbags 0.11.9. Fails if the field of the .msg file is a base type.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install rosbags==0.11.9

cat >"$folder/wstring.py" <<'END_OF_PYTHON'
from rosbags.typesys import get_types_from_idl, get_types_from_msg

of_msg = get_types_from_msg("wstring text\n", "a/msg/Wide")["a/msg/Wide"][1]
of_idl = get_types_from_idl("module a { module msg { struct Wide { wstring text; }; }; };")["a/msg/Wide"][1]
print("of .msg", of_msg)
print("of .idl", of_idl)
assert [described[0].name for _, described in of_msg] == ["NAME"], of_msg
assert [described[0].name for _, described in of_idl] == ["BASE"], of_idl
END_OF_PYTHON
"$folder/venv/bin/python" "$folder/wstring.py"
echo "as described"
