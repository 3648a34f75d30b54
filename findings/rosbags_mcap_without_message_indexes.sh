#!/bin/sh
# rosbags 0.11.9 finds no message in an MCAP whose chunks are listed without message indexes, and raises no error.
#
# The format allows such files (a chunk index with an empty map of message index offsets), and the writer of mcap makes them
# with IndexType.CHUNK. The library counts the messages of each channel from the offsets of the indexes that are not there,
# so that every chunk seems to hold nothing; its count of all messages, from the statistics, is right. The reader of mcap
# returns them all. Without chunk indexes too (IndexType.NONE), both libraries read them.
#
# Seen with Python 3.11, rosbags 0.11.9, mcap 1.6.0. Fails if the library returns a message.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install rosbags==0.11.9 mcap==1.6.0

cat >"$folder/indexes.py" <<'END'
import sys
from pathlib import Path

from mcap.reader import make_reader
from mcap.writer import IndexType, Writer
from rosbags.highlevel import AnyReader

path = Path(sys.argv[1]) / "a.mcap"


def counts(indexes):
    """Messages that the statistics of rosbags count, that it returns, and that mcap returns."""
    with path.open("wb") as file:
        writer = Writer(file, index_types=indexes)
        writer.start(profile="ros2")
        schema = writer.register_schema("std_msgs/msg/Bool", "ros2msg", b"bool data\n")
        channel = writer.register_channel("/on", "cdr", schema)
        for k in range(10):
            writer.add_message(channel, log_time=k + 1, publish_time=k + 1, data=b"\0\1\0\0\1")
        writer.finish()
    with AnyReader([path]) as reader:
        theirs = (reader.message_count, sum(1 for _ in reader.messages()))
    with path.open("rb") as file:
        return (*theirs, sum(1 for _ in make_reader(file).iter_messages()))


found = {str(indexes): counts(indexes) for indexes in (IndexType.ALL, IndexType.CHUNK, IndexType.NONE)}
print(found)
assert list(found.values()) == [(10, 10, 10), (10, 0, 10), (10, 10, 10)], found
END
"$folder/venv/bin/python" "$folder/indexes.py" "$folder"
echo "as described"
