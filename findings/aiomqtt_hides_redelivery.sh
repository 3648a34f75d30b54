#!/bin/sh
# aiomqtt 2.5.1 does not say whether a message is a redelivery.
#
# With QoS 1 a broker sends a message again that it has no acknowledgement of, with the flag DUP set (MQTT 3.1.1, 3.3.1.1).
# paho-mqtt, which aiomqtt is built on, has the flag as `MQTTMessage.dup`; aiomqtt's own `Message` has no place for it, so that an
# application that must not count a message twice cannot tell it from a second message of the same content.
#
# Seen with Python 3.11, aiomqtt 2.5.1, paho-mqtt 2.2.0. Fails if `Message` has the flag.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet install aiomqtt==2.5.1 paho-mqtt==2.2.0 2>/dev/null

cat >"$folder/redelivery.py" <<'END'
import aiomqtt
import paho.mqtt.client as paho

said = paho.MQTTMessage(mid=7, topic=b"arm/state")
said.payload, said.qos, said.dup = b"1", 1, True
found = aiomqtt.Message._from_paho_message(said)
names = [name for name in dir(found) if not name.startswith("_")]
print(names)
assert said.dup and "dup" not in names, names
END
"$folder/venv/bin/python" "$folder/redelivery.py"
echo "as described"
