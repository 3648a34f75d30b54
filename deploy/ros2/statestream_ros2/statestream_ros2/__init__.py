"""Topics of ROS 2 through a model served by statestream. Only `node` imports rclpy."""
