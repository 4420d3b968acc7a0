# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

package_name = 'chef_sim'

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
    description='The simulated cell of RGB stacking, without ROS',
    license='Apache-2.0',
)
