"""How colcon installs the package."""

from setuptools import setup

NAME = "statestream_ros2"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "bridge.yaml"]),
    ],
    install_requires=["statestream"],
    license="Apache-2.0",
    entry_points={"console_scripts": [f"bridge = {NAME}.node:main"]},
)
