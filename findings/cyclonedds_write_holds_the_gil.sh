#!/bin/sh
# cyclonedds 11.0.1 for Python keeps the interpreter's lock while a write waits for room: all threads of Python stand still.
#
# A reliable writer waits as long as its max_blocking_time while a reader that stopped has not acknowledged. Meanwhile no other
# thread runs, so also none of an event loop, and no listener in Python. With a max_blocking_time of 0 a write returns
# DDS_RETCODE_TIMEOUT at once instead, and can be tried again later.
#
# Seen with Python 3.11, cyclonedds 11.0.1 on loopback. Fails if a thread that ticks every 10 ms goes on during the write.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install cyclonedds==11.0.1

cat >"$folder/topic.py" <<'END_OF_PYTHON'
import os
from dataclasses import dataclass

from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import sequence, uint8
from cyclonedds.qos import Policy, Qos
from cyclonedds.topic import Topic

os.environ["CYCLONEDDS_URI"] = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo'/></Interfaces><AllowMulticast>false"
    "</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex><Peers><Peer address='127.0.0.1'/>"
    "</Peers></Discovery></Domain></CycloneDDS>"
)
WAIT_NS = 1_000_000_000


@dataclass
class Big(IdlStruct):
    data: sequence[uint8]


participant = DomainParticipant(97)
topic = Topic(participant, "big", Big)
qos = Qos(Policy.Reliability.Reliable(WAIT_NS), Policy.History.KeepAll)
END_OF_PYTHON
cat >"$folder/reader.py" <<'END_OF_PYTHON'
import time

from cyclonedds.sub import DataReader

from topic import participant, qos, topic

reader = DataReader(participant, topic, qos)
time.sleep(60)
END_OF_PYTHON
cat >"$folder/writer.py" <<'END_OF_PYTHON'
import signal
import subprocess
import sys
import threading
import time

from cyclonedds.core import DDSException
from cyclonedds.pub import DataWriter

from topic import WAIT_NS, Big, participant, qos, topic

writer = DataWriter(participant, topic, qos)
reader = subprocess.Popen([sys.executable, "reader.py"])
ticks = []


def tick():
    while True:
        ticks.append(time.monotonic())
        time.sleep(0.01)


try:
    while not writer.get_matched_subscriptions():
        time.sleep(0.05)
    reader.send_signal(signal.SIGSTOP)
    threading.Thread(target=tick, daemon=True).start()
    try:
        for _ in range(1000):
            writer.write(Big([0] * 10_000))
        raise AssertionError("no write waited")
    except DDSException as error:
        assert error.code == DDSException.DDS_RETCODE_TIMEOUT, error
    pause = max(b - a for a, b in zip(ticks, [*ticks[1:], time.monotonic()]))
    print(f"longest pause of the other thread: {pause:.2f} s")
    assert pause > 0.9 * WAIT_NS * 1e-9, pause
finally:
    reader.kill()
    reader.wait()
END_OF_PYTHON
cd "$folder"
"$folder/venv/bin/python" writer.py
echo "as described"
