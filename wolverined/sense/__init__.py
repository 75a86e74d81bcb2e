# SPDX-License-Identifier: MIT
"""How trouble is noticed: probes, routes, reports, the error monitor, resources."""
