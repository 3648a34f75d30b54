"""Topics of ROS 2 through a model served by statestream: a node over `statestream.service.bridge`."""
