# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

package_name = 'chef_control'
nodes = {
    'sim_world': 'sim_world',
    'fake_device': 'fake_device',
    'arm_driver': 'arm_driver',
    'gripper_driver': 'gripper_driver',
    'wrench_driver': 'wrench_driver',
    'camera_driver': 'camera_driver',
    'object_tracker': 'object_tracker',
    'velocity_controller': 'velocity_controller',
    'safety_gate': 'safety_gate',
    'scene_reset': 'scene_reset',
    'episode_node': 'episode_node',
    'recorder': 'recorder',
    'cell_manager': 'cell_manager',
    'cell_storage': 'cell_storage',
    'collect': 'collect',
}

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test']),
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + package_name]),
        ('share/' + package_name, ['package.xml']),
    ],
    install_requires=['setuptools'],
    extras_require={'test': ['pytest']},
    zip_safe=True,
    maintainer='CHEF developers',
    maintainer_email='chef@example.org',
    description='Nodes of a robot cell: drivers, controller, safety gate, reset, episode node, recorder',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            f'{executable} = {package_name}.nodes.{module}:main' for executable, module in nodes.items()
        ],
    },
)
