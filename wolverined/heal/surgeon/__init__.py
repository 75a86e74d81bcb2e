# SPDX-License-Identifier: MIT
"""The surgeon: the only role that opens a file of the app, as its owner, for seconds (DESIGN 1).

It walks by directory descriptors and follows no symbolic link. It does what it is told, checks
every hash before and after, and knows nothing of incidents, models or policies.
"""
