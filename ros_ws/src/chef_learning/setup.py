# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

package_name = 'chef_learning'
nodes = ('policy_node', 'learner_node')

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
    description='Replay, networks, MPO and the learner of CHEF; the policy and learner nodes',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [f'{node} = {package_name}.nodes.{node}:main' for node in nodes],
    },
)
