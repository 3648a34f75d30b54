"""`python -m tests.support.zenoh_peer PORT`: publishes `/imu` as a node of rmw_zenoh does, with its names in full.

Each line on stdin is `[t_ns, x, y]`. It prints a line when a subscriber matches.
"""

from __future__ import annotations

import json
import struct
import sys
import time

import zenoh

from tests.support.robot_logs import built, header, typestore

KIND = "geometry_msgs/msg/PointStamped"


def main(port: str) -> None:
    """Publish until stdin ends."""
    store = typestore()
    config = zenoh.Config()
    settings = {
        "mode": "client",
        "connect/endpoints": [f"tcp/127.0.0.1:{port}"],
        "scouting/multicast/enabled": False,
        "transport/shared_memory/enabled": False,
    }
    for path, value in settings.items():
        config.insert_json5(path, json.dumps(value))
    name = f"geometry_msgs::msg::dds_::PointStamped_/{store.hash_rihs01(KIND)}"
    with zenoh.open(config) as session:
        token = f"@ros2_lv/0/{session.zid()}/0/10/MP/%/%/imu_driver/%imu/{name}/::,10:,:,:,,"
        alive = session.liveliness().declare_token(token)
        publisher = session.declare_publisher(f"0/imu/{name}")
        while not publisher.matching_status.matching:
            time.sleep(0.01)
        print("ready", flush=True)
        for number, line in enumerate(sys.stdin, 1):
            t_ns, x, y = json.loads(line)
            message = built(store, KIND, {"header": header(t_ns, "imu"), "point": {"x": x, "y": y, "z": 0.0}})
            attachment = struct.pack("<qqB16s", number, time.time_ns(), 16, bytes(16))
            publisher.put(bytes(store.serialize_cdr(message, KIND)), attachment=attachment)
        alive.undeclare()


if __name__ == "__main__":
    main(*sys.argv[1:])
