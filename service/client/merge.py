"""The import path of version 0.1; use `statestream.service.client`.

The package takes the function `merge` from here: Python binds a module's name in its package when it is first imported,
so a later import of this module would put the module in the function's place.
"""

from statestream.service.client.sensor_merge import MOST_WAITING, Event, Merge, Ordering, Sample, Sensor, merge

__all__ = ["MOST_WAITING", "Event", "Merge", "Ordering", "Sample", "Sensor", "merge"]
